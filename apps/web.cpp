// web.cpp - an HTTP server with two pages.
//
// New here: what a client asks for decides who answers. A router holds the
// patterns and their handlers; a handler sees one request and says what the
// response is, and may take its time over that, since others go on meanwhile.
// One that needs no time is a plain function. What came from the client is
// text, and goes into a page only as text: a name with a < in it is greeted by
// that name, and is no markup.
// SPDX-License-Identifier: MIT
#include <string>
#include <string_view>

#include "../net/http/http.hpp"
#include "server_args.hpp"

using namespace violet;

namespace {

constexpr std::string_view kHtml = "text/html; charset=utf-8";

void index_page(http::Exchange& x) {
  x.reply(200, kHtml, "<h1>Index</h1>");
}

Task<> hello(http::Exchange& x) {
  co_await violet::sleep(std::chrono::milliseconds(500));
  std::string page = "<h1>Hello, ";
  http::append_html(page, x.parameter("name"));
  page += "!</h1>";
  co_await x.send(200, kHtml, page);
}

Task<> serve_pages(Address address, ServerOptions options) {
  http::Router router;
  router.get("/", index_page);
  router.get("/hello/{name}", hello);
  LoopsServer server(1, options);
  server.listen(address);
  print_line(concat({"Server started at http://", server.address().text()}));
  co_await server.run(0, http::Application(router, http::Options(options)));
}

}  // namespace

int main(int argc, char** argv) {
  ServerArgs server(8000);
  Args args("web", "an HTTP server with two pages: / and /hello/NAME");
  server.add_where(args, "port, 0 for any free one (8000)");
  server.add_manners(args);
  args.parse(argc, argv);
  return run_program(serve_pages(server.address(args), server.options()));
}
