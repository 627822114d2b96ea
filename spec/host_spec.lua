-- The aijit executable, run as a user runs it.

local process = require "support.process"

local aijit = process.aijit()
if not aijit then
  pending("the aijit executable is not built")
  return
end

local quote = process.quote
local exe = quote(aijit)

local function file(text)
  local path = os.tmpname()
  local out = assert(io.open(path, "w"))
  out:write(text)
  out:close()
  return path
end

local function run(arguments, input)
  return process.run(exe .. " " .. arguments, {input = input})
end

describe("aijit", function()
  it("runs a file with its arguments in ... and in arg", function()
    local path = file("print(arg[0], arg[2], arg[3], ...)")
    local result = run(path .. " one 'two words'")
    assert.equal(path .. "\ttwo words\tnil\tone\ttwo words\n", result.out)
    assert.equal(0, result.status)
    os.remove(path)
  end)

  it("puts its own name below arg[0]", function()
    local path = file("print(arg[-2], arg[-1])")
    assert.equal("nil\t" .. aijit .. "\n", run(path).out)
    os.remove(path)
  end)

  it("runs several -e and -l in their order", function()
    assert.equal("1\n2\n", run("-e 'x = 1 print(x)' -e 'print(x + 1)'").out)
    assert.equal("table\n", run("-l jit.util -e 'print(type(util))'").out)
  end)

  it("takes an option's value also without a space", function()
    assert.equal("3\n", run("'-eprint(1+2)'").out)
  end)

  it("runs a program from standard input", function()
    local result = run("- a b", "print('in', ...)")
    assert.equal("in\ta\tb\n", result.out)
    assert.equal(0, result.status)
  end)

  it("skips a first line that names the interpreter", function()
    local path = file("#!/usr/bin/env aijit\nprint('ok')")
    assert.equal("ok\n", run(path).out)
    os.remove(path)
  end)

  it("runs a file after -- even if its name begins with a dash", function()
    local folder = process.folder()
    local result = process.run(("cd %s && echo 'print(7)' >-odd.lua && %s -- -odd.lua"):format(folder, exe))
    assert.equal("7\n", result.out)
    os.execute("rm -r " .. folder)
  end)

  it("hands -m on as the program's first argument", function()
    local path = file("print(arg[1], ...)")
    assert.equal("-m\t-m\tlr=1,2\n", run("-m " .. path .. " lr=1,2").out)
    os.remove(path)
  end)

  it("shows versions and help", function()
    assert.matches("^aijit %d+%.%d+%.%d+, LuaJIT 2", run("-v").out)
    local help = run("-h")
    assert.equal(0, help.status)
    assert.matches("usage: aijit", help.out, 1, true)
    assert.matches("doctor", help.out, 1, true)
  end)

  it("refuses an option it does not know", function()
    local result = run("-x")
    assert.equal(1, result.status)
    assert.matches("no such option: '-x'", result.err, 1, true)
    assert.equal("", result.out)
  end)

  it("says which option lacks its argument", function()
    local result = run("-e")
    assert.equal(1, result.status)
    assert.matches("after '-e'", result.err, 1, true)
  end)

  it("names a file that is missing", function()
    local result = run("/nowhere/train.lua")
    assert.equal(1, result.status)
    assert.matches("/nowhere/train.lua", result.err, 1, true)
    assert.is_nil(result.err:find("traceback", 1, true))
  end)

  it("shows a syntax error without a traceback", function()
    local result = run("-e 'x = = 1'")
    assert.equal(1, result.status)
    assert.matches("unexpected symbol near '='", result.err, 1, true)
    assert.is_nil(result.err:find("traceback", 1, true))
  end)

  it("shows an error with the user's frames and none of its own", function()
    local path = file("local function deep() error('boom') end\nlocal function outer() deep() end\nouter()\n")
    local result = run(path)
    assert.equal(1, result.status)
    assert.matches("^aijit: [^\n]+:1: boom\nstack traceback:\n", result.err)
    assert.matches("in function 'deep'", result.err, 1, true)
    assert.matches("in main chunk\n$", result.err)
    os.remove(path)
  end)

  it("shows a wrong use of aijit at the line of the program, without aijit's frames", function()
    local path = file("local ai = require 'aijit'\nlocal function go()\n  return ai.ones(2):no_such_method() + 1\nend\ngo()\n")
    local result = run(path)
    assert.matches("^aijit: [^\n]+:3: ", result.err)
    assert.matches("in function 'go'", result.err, 1, true)
    assert.is_nil(result.err:find("bindings/", 1, true))
    os.remove(path)
  end)

  it("shows aijit's frames of an error inside aijit", function()
    local result = run("-e 'require(\"aijit.inspect\").inspect(1, 5)'")
    assert.matches("inspect.lua:%d+: in function 'inspect'", result.err)
  end)

  it("shows error objects that are not strings", function()
    local object = "setmetatable({}, {__tostring = function() return \"my object\" end})"
    assert.matches("^aijit: my object\n", run("-e 'error(" .. object .. ")'").err)
    assert.matches("a table value) {code = 3}", run("-e 'error{code = 3}'").err, 1, true)
  end)

  it("fails without a word after error() without a value", function()
    local result = run("-e 'error()'")
    assert.equal(1, result.status)
    assert.equal("", result.err)
  end)

  it("exits with the status given to os.exit", function()
    assert.equal(7, run("-e 'os.exit(7)'").status)
  end)

  it("fails when standard output is closed or full", function()
    assert.equal(1, process.run(exe .. " -e 'print(1)' >&-").status)
    local full = process.run(exe .. " -e 'print(1)' >/dev/full")
    assert.equal(1, full.status)
    assert.matches("standard output", full.err, 1, true)
  end)

  it("does not write into a file that took the number of a closed standard output", function()
    local path = os.tmpname()
    process.run(exe .. (" -e 'local f = io.open(%q, \"w\") print(1) f:close()' >&-"):format(path))
    local out = assert(io.open(path))
    assert.equal("", out:read("*a"))
    out:close()
    os.remove(path)
  end)

  it("runs LUA_INIT first, as code or as a file", function()
    assert.equal("init\n1\n", process.run("LUA_INIT='print(\"init\")' " .. exe .. " -e 'print(1)'").out)
    local path = file("print('from file')")
    assert.equal("from file\n", process.run("LUA_INIT=@" .. path .. " " .. exe .. " -e ''").out)
    os.remove(path)
  end)

  it("keeps LUA_PATH and LUA_CPATH behind its own folders", function()
    local out = process.run(("LUA_PATH='/mine/?.lua;;' LUA_CPATH='/mine/?.so' %s -e 'print(package.path) print(package.cpath)'")
      :format(exe)).out
    assert.matches("/mine/?.lua", out, 1, true)
    assert.matches("/mine/?.so", out, 1, true)
    assert.matches("^/", out)
  end)

  it("finds its Lua files from any folder and through a link", function()
    local folder = process.folder()
    local result = process.run(("cd / && ln -s %s %s/linked && %s/linked -e 'print(require(\"aijit.tree\").root)'")
      :format(exe, folder, folder))
    assert.equal(0, result.status)
    os.execute("rm -r " .. folder)
  end)

  it("leaves the core unloaded until a program asks for it", function()
    assert.equal("nil\n", run("-e 'print(package.loaded.aijit)'").out)
  end)

  it("lets a new Lua state take over the paths", function()
    local code = [[
      local paths = require "aijit.tree"
      package.loaded["aijit.tree"] = nil
      local loaders = #package.loaders
      print(require "aijit.tree" == paths, #package.loaders == loaders)]]
    assert.equal("true\ttrue\n", run("-e " .. quote(code)).out)
  end)

  it("reports errors even where the stack is full or the file is a folder", function()
    local overflow = run("-e 'local function f() return 1 + f() end f()'")
    assert.equal(1, overflow.status)
    assert.matches("stack overflow", overflow.err, 1, true)
    assert.equal(1, run("/").status)
    assert.equal(1, run("''").status)
  end)

  it("ends quietly when nobody reads its output any more", function()
    local result = process.run(exe .. " -e 'for i = 1, 1e6 do print(i) end' | head -n 1")
    assert.equal("1\n", result.out)
    assert.equal("", result.err)
  end)

  it("turns the compiler off with -joff", function()
    assert.equal("false\n", run("-joff -e 'print((jit.status()))'").out)
  end)
end)

describe("aijit doctor", function()
  it("tells what is there, and exits with 0 only if all that is required is", function()
    local result = run("doctor")
    assert.matches("LuaJIT", result.out, 1, true)
    assert.matches("GC64", result.out, 1, true)
    assert.equal(result.out:find("MISSING", 1, true) and 1 or 0, result.status)
  end)

  it("names the command that helps when the library does not load", function()
    local path = file("no library")
    local result = process.run("AIJIT_LIB=" .. path .. " " .. exe .. " doctor")
    os.remove(path)
    assert.equal(1, result.status)
    assert.matches("MISSING  libaijit.so", result.out, 1, true)
    assert.matches("rocks/bootstrap", result.out, 1, true)
  end)

  it("takes no arguments", function()
    assert.equal(1, run("doctor now").status)
  end)
end)

describe("Ctrl-C", function()
  -- The children are started with job control, because a shell's plain background jobs ignore SIGINT.
  local function press(code, times, wait)
    local kills = ("kill -INT $pid; sleep %g; "):format(wait or 0.2):rep(times)
    local script = ("set -m; %s -e %s & pid=$!; sleep 0.6; %s wait $pid; exit $?"):format(exe, quote(code), kills)
    return process.run("bash -c " .. quote(script), {limit = 20})
  end

  it("stops a compiled loop with status 130", function()
    local result = press("local x = 0 while true do x = x + 1 end", 1)
    assert.equal(130, result.status)
    assert.matches("interrupted", result.err, 1, true)
  end)

  it("stops compiled loops that call functions, fill tables, or run in a coroutine", function()
    assert.equal(130, press("local function f(x) return x + 1 end local x = 0 while true do x = f(x) end", 1).status)
    assert.equal(130, press("local t = {} while true do for i = 1, 100 do t[i] = i end end", 1).status)
    assert.equal(130, press("coroutine.wrap(function() while true do end end)()", 1).status)
  end)

  it("stops a loop of tensor operations, and the tensors work on", function()
    local code = [[
      local ai = require "aijit"
      local x = ai.ones(200, 200)
      print(pcall(function() while true do (x * x + x):sum() end end))
      print((x:sum():item()))]]
    local result = press(code, 1)
    assert.equal("false\tinterrupted\n40000\n", result.out)
  end)

  it("ends a read that waits", function()
    local command = "sleep 5 | timeout --foreground --preserve-status -s INT 0.5 %s -e 'io.read()'"
    assert.equal(130, process.run(command:format(exe)).status)
  end)

  it("can be caught, so that a program can save its work", function()
    local result = press("local ok, e = pcall(function() while true do end end) print('saved', e) ", 1)
    assert.equal("saved\tinterrupted\n", result.out)
    assert.equal(0, result.status)
  end)

  it("pressed twice within a second ends the process at once", function()
    local result = press("while true do pcall(function() while true do end end) end", 2)
    assert.equal(130, result.status)
    assert.is_nil(result.err:find("traceback", 1, true))
  end)
end)
