// runtime.hpp - the front door of the runtime, in reading order.
// SPDX-License-Identifier: MIT
#pragma once

// ground
#include "error.hpp"
#include "fd.hpp"
#include "list.hpp"
#include "sys.hpp"

// core
#include "event.hpp"
#include "events.hpp"
#include "frames.hpp"
#include "job.hpp"
#include "poller.hpp"
#include "remote.hpp"
#include "scheduler.hpp"
#include "slots.hpp"
#include "task.hpp"
#include "timers.hpp"

// around the core
#include "loops.hpp"
#include "poller_sim.hpp"
#include "program.hpp"
#include "signals.hpp"
#include "within.hpp"
