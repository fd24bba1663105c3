// runtime.hpp - the front door of the runtime, in reading order.
// SPDX-License-Identifier: MIT
#pragma once

// The version. It stands here alone; `make install` reads it from these lines.
#define VIOLET_VERSION_MAJOR 0
#define VIOLET_VERSION_MINOR 1
#define VIOLET_VERSION_PATCH 0

// clang-format off: the order is for the reader.
// ground
#include "sys.hpp"
#include "error.hpp"
#include "outcome.hpp"
#include "fd.hpp"
#include "owned.hpp"
#include "list.hpp"
// core
#include "frames.hpp"
#include "task.hpp"
#include "event.hpp"
#include "timers.hpp"
#include "poller.hpp"
#include "slots.hpp"
#include "remote.hpp"
#include "job.hpp"
#include "director.hpp"
#include "scheduler.hpp"
#include "offload.hpp"
#include "events.hpp"
// around the core
#include "group.hpp"
#include "part.hpp"
#include "within.hpp"
#include "shield.hpp"
#include "combine.hpp"
#include "file.hpp"
// between jobs
#include "sync.hpp"
#include "generator.hpp"
#include "channel.hpp"
#include "oneshot.hpp"
// around a program
#include "poller_sim.hpp"
#include "signals.hpp"
#include "signal_events.hpp"
#include "process.hpp"
#include "loops.hpp"
#include "program.hpp"
