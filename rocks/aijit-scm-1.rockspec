rockspec_format = "3.0"
package = "aijit"
version = "scm-1"
source = {
  url = "git+file://.",
}
description = {
  summary = "A machine-learning runtime for Lua",
  detailed = "Tensors, automatic differentiation, layers and training on the CPU and on CUDA, for LuaJIT.",
  license = "MIT",
}
supported_platforms = {"linux"}
dependencies = {
  "lua == 5.1",       -- LuaJIT with GC64, which the build checks
}
build = {
  type = "cmake",
  variables = {
    CMAKE_BUILD_TYPE = "Release",
    LIBDIR = "$(LIBDIR)",
    LUADIR = "$(LUADIR)",
    BINDIR = "$(BINDIR)",
  },
}
test = {
  type = "command",
  command = "rocks/bootstrap test",
}
