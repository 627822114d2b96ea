-- The rock, built and installed into a tree of its own as a user's `luarocks make` does it, without a network.

local process = require "support.process"

describe("the rock #slow", function()
  local paths = require "aijit.tree"
  if not paths.source or not process.has("luarocks") then
    pending("no source tree, or no luarocks")
    return
  end

  local folder, tree, made

  setup(function()
    folder = process.folder()
    tree = folder .. "/tree"
    -- A copy: LuaRocks leaves its build folder beside the sources.
    local copy = ("cd %s && tar cf - --exclude=./build --exclude=./build.luarocks --exclude=./.git . | tar xf - -C %s"):format(
      process.quote(paths.root), folder)
    assert(process.run(copy).status == 0)
    local make = "cd %s && AIJIT_LEVELS=" .. require("aijit").cpu_level() .. " CMAKE_BUILD_PARALLEL_LEVEL=2 luarocks make --tree %s rocks/aijit-scm-1.rockspec"
    made = process.run(make:format(folder, tree), {limit = 1200})
  end)

  teardown(function() os.execute("rm -rf " .. process.quote(folder)) end)

  it("builds and installs", function()
    assert(made.status == 0, made.out .. made.err)
    assert.equal(0, os.execute("test -x " .. tree .. "/bin/aijit"))
    assert.equal(0, os.execute("test -f " .. tree .. "/lib/lua/5.1/aijit/libaijit.so"))
  end)

  it("works under plain luajit by the tree's paths", function()
    local code = [[local ai = require "aijit" print(ai.ones(2, 2):sum():item())]]
    local env = ("LUA_PATH='%s/share/lua/5.1/?.lua;%s/share/lua/5.1/?/init.lua;;' LUA_CPATH='%s/lib/lua/5.1/?.so;;'"):format(
      tree, tree, tree)
    local result = process.run(("cd / && %s luajit -e %s"):format(env, process.quote(code)))
    assert.equal("", result.err)
    assert.equal("4\n", result.out)
  end)

  it("has an executable that finds its own tree, with no variables set", function()
    local code = [[print(require("aijit.tree").root) print(require("aijit").ones(2, 2):sum():item())]]
    local result = process.run(("cd / && env -u LUA_PATH -u LUA_CPATH %s/bin/aijit -e %s"):format(tree, process.quote(code)))
    assert.equal("", result.err)
    assert.equal(tree .. "\n4\n", result.out)
  end)
end)
