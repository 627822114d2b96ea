-- The interactive session: its parts as functions, then whole, through a pipe and in a terminal.

local chunk = require "aijit.repl.chunk"
local complete = require "aijit.repl.complete"
local history = require "aijit.repl.history"
local process = require "support.process"
local repl = require "aijit.repl"
local token = require "aijit.repl.token"

local function session()
  local out = {}
  local s = repl.new{write = function(text) out[#out + 1] = text end}
  return function(...)
    for _, line in ipairs{...} do s:feed(line) end
    local text = table.concat(out)
    out = {}
    return text
  end, s
end

describe("token", function()
  local function texts(source)
    local list = {}
    for i, t in ipairs(token.code(source)) do list[i] = t.text end
    return list
  end

  it("splits names, numbers, strings and symbols", function()
    assert.same({"a", ".", "b", "==", "0x1F", "..", "'x y'", ",", "1e-3", "..."}, texts("a.b==0x1F ..'x y',1e-3 ..."))
  end)

  it("leaves comments out, and knows long brackets", function()
    assert.same({"x", "[[a\nb]]", "[=[ ]] ]=]"}, texts("x --[[ y\n]] [[a\nb]] -- z\n[=[ ]] ]=]"))
  end)

  it("marks a string that has no end", function()
    local list = token.tokens([[f("a\"b]])
    assert.is_true(list[3].open)
  end)
end)

describe("chunk.share_locals", function()
  it("gives locals of the top level to the session, and no others", function()
    local source, names = chunk.share_locals("local a, b = 1, 2 do local c = 3 end local function f() local d end")
    assert.same({"a", "b", "f"}, names)
    assert.equal("      a, b = 1, 2 do local c = 3 end       function f() local d end", source)
  end)

  it("makes a local without a value nil", function()
    assert.equal("      x = nil", (chunk.share_locals("local x")))
    assert.equal("      x, y = nil print(1)", (chunk.share_locals("local x, y print(1)")))
  end)

  it("is not misled by strings, comments and methods", function()
    local source = "print('local x') --[[ local y ]] t = {function() local z end}"
    assert.equal(source, (chunk.share_locals(source)))
  end)
end)

describe("chunk.compile", function()
  it("takes an expression as one, comment and all", function()
    assert.equal(3, chunk.compile("1 + 2 -- three").run())
    assert.equal(3, chunk.compile("= 1 + 2").run())
  end)

  it("asks for more only when more can help", function()
    for _, source in ipairs{"for i = 1, 2 do", "f(", "x =", "local", "if a then b()", "[[text", "local function f()"} do
      assert.is_true(chunk.compile(source).incomplete, source)
    end
    for _, source in ipairs{"x = = 1", "end", "'abc", "1 +* 2", ")"} do
      local compiled = chunk.compile(source)
      assert.is_nil(compiled.incomplete, source)
      assert.is_string(compiled.error, source)
    end
  end)

  it("is silent after a semicolon", function()
    assert.is_true(chunk.compile("1;").silent)
    assert.is_true(chunk.compile("x = 1; -- set").silent)
    assert.is_false(chunk.compile("';'").silent)
  end)
end)

describe("a session", function()
  it("prints all values of an expression, nil too", function()
    local feed = session()
    assert.equal('1    nil    "a"    nil\n', feed("1, nil, 'a', nil"))
    assert.equal("nil\n", feed("nil"))
    assert.equal("", feed("print == nil;"))
  end)

  it("keeps locals from line to line, and out of the globals", function()
    local feed = session()
    feed("local repl_spec_x = 5")
    assert.equal("6\n", feed("repl_spec_x + 1"))
    assert.is_nil(rawget(_G, "repl_spec_x"))
    feed("repl_spec_x = 7")
    assert.equal("7\n", feed("repl_spec_x"))
    assert.is_nil(rawget(_G, "repl_spec_x"))
  end)

  it("lets functions see later values of the session's locals", function()
    local feed = session()
    feed("local n = 1", "local function get() return n end", "n = 2")
    assert.equal("2\n", feed("get()"))
  end)

  it("has a local shadow a global without harm to it", function()
    local feed = session()
    feed("local type = 'mine'")
    assert.equal('"mine"\n', feed("type"))
    assert.equal("function", type(type))
  end)

  it("continues a chunk over lines, and drops it on cancel", function()
    local feed, s = session()
    assert.equal("", feed("local function twice(x)"))
    assert.is_string(s.buffer)
    assert.equal("8\n", feed("  return 2 * x", "end", "twice(4)"))
    feed("if true then")
    s:cancel()
    assert.equal("1\n", feed("1"))
  end)

  it("has the last value in _, unless the user made a _ of his own", function()
    local feed = session()
    assert.equal("42\n", feed("21 * 2;", "_"))
    assert.equal("1\n", feed("local a, _ = 5, 1", "3;", "_"))
  end)

  it("reports an error and goes on", function()
    local feed, s = session()
    assert.equal("repl:1: boom\n", feed("error('boom')"))
    assert.is_true(s.failed)
    assert.equal("1\n", feed("1"))
    assert.matches("^repl:1: attempt to index global", feed("repl_spec_nothing.x -- comment"))
  end)

  it("shows the user's frames of an error, and none of its own", function()
    local feed = session()
    local text = feed("local function f() error('deep') end local function g() f() return 1 end", "g()")
    assert.matches("in function 'f'", text, 1, true)
    assert.is_nil(text:find("repl/init", 1, true))
    assert.is_nil(text:find("protect", 1, true))
  end)

  it("has ai and nn at hand, and shows tensors", function()
    local feed = session()
    assert.matches("3", feed("ai.ones(3):sum()"), 1, true)
    assert.matches("^class Linear", feed("nn.Linear"))
    assert.is_nil(rawget(_G, "ai"))
  end)

  it("shows no frames of an op that was used wrongly", function()
    local feed = session()
    local text = feed("ai.ones(2) + ai.ones(3)")
    assert.matches("^repl:1: add", text)
    assert.is_nil(text:find("\n\t", 1, true))
  end)

  it("completes a tensor's methods", function()
    local feed, s = session()
    feed("x = ai.ones(3)")
    assert.matches("^ape", (s:tab("x:resh")))
  end)

  it("shows error objects", function()
    local feed = session()
    assert.matches("{code = 3}", feed("error{code = 3}"), 1, true)
  end)

  it("times code and shows its value", function()
    local feed = session()
    assert.matches("^3\n%[%S+ %a+%]\n$", feed(":time 1 + 2"))
  end)

  it("tells memory, commands, and that a command is unknown", function()
    local feed = session()
    assert.matches("^Lua ", feed(":mem"))
    assert.matches(":time CODE", feed(":help"), 1, true)
    assert.matches(":nope is no command", feed(":nope"), 1, true)
  end)

  it("answers ?name from the comment above a function", function()
    local feed = session()
    feed("local inspect = require 'aijit.inspect'")
    assert.matches("Text that shows `value`", feed("?inspect.inspect"), 1, true)
    assert.matches("Text that shows `value`", feed("inspect.inspect?"), 1, true)
    assert.matches("^no help on", feed("?no_such_thing"))
    assert.equal("print: a function of LuaJIT\n", feed("?print"))
  end)

  it("answers ?name from the table of ops", function()
    local feed = session()
    assert.matches("^relu%(x%)", feed("?relu"))
    assert.matches("^relu%(x%)", feed("?ai.f.relu"))
  end)

  it("ends after :quit", function()
    local feed, s = session()
    feed(":quit")
    assert.is_true(s.done)
  end)
end)

describe("completion", function()
  local object = setmetatable({weight = 1, forward = function() end}, {__index = {backward = function() end, size = 3}})
  local context = {
    get = function(name) return ({m = object, math = math, config = {["learning rate"] = 1, batch = 2}})[name] end,
    names = function() return {{model = 1, math = math, print = print}} end,
    glob = function(pattern) return pattern == "da*" and {"data/", "dare.lua"} or {} end,
    commands = {"help", "time"},
    path = "",
  }
  local function words(line) return complete.complete(line, context).words end

  it("offers names in scope and keywords", function()
    assert.same({"math", "model"}, words("x = m"))
    assert.same({"while"}, words("whi"))
  end)

  it("offers fields after a dot, of the object and of its class", function()
    assert.same({"backward(", "forward(", "size", "weight"}, words("m."))
    assert.same({"floor(", "fmod(", "frexp("}, words("y = math.f"))
  end)

  it("offers only functions after a colon", function()
    assert.same({"backward(", "forward("}, words("m:"))
  end)

  it("calls no __index function of the user's", function()
    local trap = setmetatable({}, {__index = function() error "called" end})
    context.get = function() return trap end
    assert.same({}, words("trap.a.b"))
  end)

  it("offers file names in a string, and string keys in brackets", function()
    context.get = function() return {["learning rate"] = 1, batch = 2} end
    assert.same({"data/", "dare.lua"}, words("load('da"))
    assert.same({"learning rate"}, words([[config["lear]]))
  end)

  it("offers modules after require", function()
    assert.same({"aijit.repl.token"}, words([[require "aijit.repl.tok]]))
    assert.same({"aijit.repl.token"}, words([[require("aijit.repl.tok]]))
  end)

  it("offers commands after a colon at the start", function()
    assert.same({"help"}, words(":he"))
  end)

  it("finds what the words share, and sets them in columns", function()
    assert.equal("fo", complete.common{"foo", "fork"})
    assert.equal("aa  cc\nb", complete.columns({"aa", "b", "cc"}, 7))
  end)
end)

describe("history", function()
  it("keeps each line once, where it was used last", function()
    assert.same({"b", "a", "c"}, history.unique{"a", "b", "", "a", "c"})
    assert.same({"b", "c"}, history.unique({"a", "b", "c"}, 2))
  end)

  it("lies in the XDG state folder, or where AIJIT_HISTORY says", function()
    local function at(env) return history.path(function(name) return env[name] end) end
    assert.equal("/h/.local/state/aijit/history", at{HOME = "/h"})
    assert.equal("/s/aijit/history", at{HOME = "/h", XDG_STATE_HOME = "/s"})
    assert.equal("/mine", at{HOME = "/h", AIJIT_HISTORY = "/mine"})
    assert.is_nil(at{HOME = "/h", AIJIT_HISTORY = ""})
  end)

  it("survives in its file", function()
    local path = os.tmpname()
    history.append(path, "x = 1")
    history.append(path, "y = 2")
    history.append(path, "x = 1")
    assert.same({"y = 2", "x = 1"}, history.load(path))
    os.remove(path)
  end)
end)

local aijit = process.aijit()

describe("through a pipe", function()
  if not aijit then
    pending("the aijit executable is not built")
    return
  end
  local exe = process.quote(aijit)

  it("reads lines without prompts", function()
    local result = process.run(exe, {input = "local x = 2\nfor i = 1, 2 do\n x = x * x\nend\nx\n"})
    assert.equal("16\n", result.out)
    assert.equal(0, result.status)
  end)

  it("goes on after an error, and exits with 1", function()
    local result = process.run(exe, {input = "error('a')\nprint('b')\n"})
    assert.matches("b\n$", result.out)
    assert.equal(1, result.status)
  end)

  it("complains of input that ends within a chunk", function()
    local result = process.run(exe, {input = "for i = 1, 2 do\n"})
    assert.matches("<eof>", result.out, 1, true)
    assert.equal(1, result.status)
  end)

  it("ends with status 130 at Ctrl-C", function()
    local command = "(echo 'while true do end'; sleep 5) | timeout --foreground --preserve-status -s INT 0.5 " .. exe
    assert.equal(130, process.run(command).status)
  end)

  it("starts after -e and -i with what they set", function()
    assert.equal("5\n", process.run(exe .. " -i -e 'y = 5'", {input = "y\n"}).out)
  end)
end)

describe("in a terminal #slow", function()
  local server = "aijit-spec-" .. tostring({}):match("%x+$")
  local function tmux(arguments) return process.run("LC_ALL=C.UTF-8 tmux -u -L " .. server .. " " .. arguments) end
  if not aijit or tmux("new-session -d 'sleep 1'").status ~= 0 then
    pending("no executable, or no tmux that can open a terminal")
    return
  end
  tmux("kill-server")

  local function type_in(...)
    for _, text in ipairs{...} do tmux("send-keys -t 0 -l " .. process.quote(text)) end
    tmux("send-keys -t 0 Enter")
  end
  local function press(key) tmux("send-keys -t 0 " .. key) end

  -- Waits until the screen shows the text; fails with the screen if it does not come.
  local function screen_shows(text)
    local shown
    for _ = 1, 100 do
      shown = tmux("capture-pane -p -t 0").out
      if shown:find(text, 1, true) then return end
      os.execute("sleep 0.1")
    end
    error(("not on the screen: %s\n%s"):format(text, shown), 2)
  end

  local file
  setup(function()
    file = os.tmpname()
    local command = ("AIJIT_HISTORY=%s LC_ALL=C.UTF-8 %s; echo exit status $?; sleep 60"):format(file, process.quote(aijit))
    tmux("new-session -d -x 80 -y 40 " .. process.quote(command))
    screen_shows(":help")
  end)
  teardown(function()
    tmux("kill-server")
    os.remove(file)
  end)

  it("completes a name by Tab", function()
    tmux("send-keys -t 0 -l 'string.rever'")
    press("Tab")
    type_in("'olleh')")
    screen_shows('"hello"')
  end)

  it("stops a compiled loop by Ctrl-C and lives on", function()
    type_in("while true do end")
    os.execute("sleep 0.5")
    press("C-c")
    screen_shows("interrupted")
    type_in("'still ' .. 'here'")
    screen_shows('"still here"')
  end)

  it("drops the line by Ctrl-C", function()
    tmux("send-keys -t 0 -l 'this is not lua'")
    press("C-c")
    screen_shows("^C")
    type_in("40 + 2")
    screen_shows("\n42")
  end)

  it("gives back an earlier line by the arrow, and writes the history", function()
    type_in("'first' .. 'line'")
    screen_shows('"firstline"')
    tmux("clear-history -t 0")
    press("C-l")
    press("Up")
    press("Enter")
    screen_shows('"firstline"')
    local found = false
    for line in io.lines(file) do found = found or line == "'first' .. 'line'" end
    assert.is_true(found)
  end)

  it("takes letters that are more than a byte", function()
    tmux("send-keys -t 0 -l '#\"héé\"'")
    press("Enter")
    screen_shows("\n5")
  end)

  it("leaves by Ctrl-D", function()
    press("C-d")
    screen_shows("exit status 0")
  end)
end)
