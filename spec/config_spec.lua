local config = require "aijit.config"
local command = require "aijit.config.command"
local file = require "aijit.config.file"
local grammar = require "aijit.config.grammar"
local nearest = require "aijit.nearest"
local process = require "support.process"
local text = require "aijit.config.text"

local field, required = config.field, config.required

local function message(f, ...)
  local ok, problem = pcall(f, ...)
  assert.is_false(ok)
  return tostring(problem)
end

local function has(needle, haystack)
  assert(haystack:find(needle, 1, true), ("'%s' is not in: %s"):format(needle, haystack))
end

local Mine = config.BareConfig.extend("MineConfig", {
  rate = field(0.1, {help = "How fast", min = 0, max = 1}),
  steps = field(10, {type = "integer"}),
  name = field("x"),
  kind = field("a", {choices = {"a", "b"}}),
  betas = field({0.9, 0.99}),
  verbose = false,
  limit = field(nil, {type = "number"}),
  inner = {size = 3, deep = {on = true}},
})

describe("a config", function()
  it("has its defaults", function()
    local c = Mine()
    assert.equal(0.1, c.rate)
    assert.same({0.9, 0.99}, c.betas)
    assert.is_false(c.verbose)
    assert.is_nil(c.limit)
    assert.is_true(c.inner.deep.on)
  end)

  it("takes values, nested ones too", function()
    local c = Mine {rate = 0.5, inner = {deep = {on = false}}}
    assert.equal(0.5, c.rate)
    assert.is_false(c.inner.deep.on)
    assert.equal(3, c.inner.size)
  end)

  it("does not share its lists with another of its class", function()
    local a, b = Mine(), Mine()
    a.betas[1] = 0
    assert.equal(0.9, b.betas[1])
  end)

  it("keeps a list as it was given, whatever its giver does to it later", function()
    local list = {1, 2}
    local c = Mine {betas = list}
    list[1] = 7
    assert.equal(1, c.betas[1])
  end)

  it("refuses a name it does not know, with the nearest one", function()
    has("MineConfig has no field 'raet'; did you mean 'rate'?", message(Mine, {raet = 1}))
    has("section 'inner' has no field 'sise'; did you mean 'size'?", message(Mine, {inner = {sise = 1}}))
  end)

  it("refuses to read a name it does not know, at the reader's line", function()
    assert.matches("config_spec.lua:%d+: MineConfig has no field 'verbos'", message(function() return Mine().verbos end))
  end)

  it("refuses a value of another type", function()
    has('rate must be a number, not "fast"', message(Mine, {rate = "fast"}))
    has("steps must be an integer, not 1.5", message(Mine, {steps = 1.5}))
    has('betas must be a list of numbers: its item 2 is "x"', message(Mine, {betas = {1, "x"}}))
    has("inner is a section: it takes a table, not 3", message(Mine, {inner = 3}))
    has("inner.size must be a number, not true", message(Mine, {inner = {size = true}}))
  end)

  it("refuses a value beyond its limits, and NaN", function()
    has("rate must be at most 1, not 2", message(Mine, {rate = 2}))
    has("rate must be at least 0, not -1", message(Mine, {rate = -1}))
    has("rate must be at least 0", message(Mine, {rate = 0 / 0}))
  end)

  it("refuses a value that is no choice", function()
    has('kind must be one of "a", "b", not "c"', message(Mine, {kind = "c"}))
  end)

  it("checks assignments", function()
    local c = Mine()
    c.steps = 20
    assert.equal(20, c.steps)
    has('steps must be an integer, not "x"', message(function() c.steps = "x" end))
    has("has no field 'stesp'", message(function() c.stesp = 1 end))
    assert.equal(20, c.steps)
  end)

  it("takes nil only where there may be no value", function()
    local c = Mine {limit = 3}
    c.limit = nil
    assert.is_nil(c.limit)
    has("rate must be a number, not null", message(function() c.rate = nil end))
  end)

  it("is read and set by dotted paths", function()
    local c = Mine()
    c:set("inner.deep.on", false)
    assert.is_false(c:get("inner.deep.on"))
    has("section 'inner' has no field 'depe'", message(c.get, c, "inner.depe.on"))
    has("rate is a value, not a section", message(c.get, c, "rate.x"))
    assert.is_true(c:has("inner.deep.on"))
    assert.is_false(c:has("inner.nothing"))
  end)

  it("becomes a plain table", function()
    local t = Mine():to_table()
    assert.same({size = 3, deep = {on = true}}, t.inner)
    assert.is_nil(getmetatable(t.inner))
  end)

  it("goes through its values", function()
    local names = {}
    for name in Mine().inner:pairs() do names[#names + 1] = name end
    assert.same({"size", "deep"}, names)
  end)

  it("equals another with the same values", function()
    assert.is_true(Mine {rate = 0.2} == Mine {rate = 0.2})
    assert.is_false(Mine {rate = 0.2} == Mine())
  end)

  it("is copied with all it has", function()
    local a = Mine {rate = 0.3}
    local b = a:copy()
    b.rate = 0.4
    b.inner.size = 9
    assert.same({0.3, 3}, {a.rate, a.inner.size})
  end)

  it("adds no field to its copies", function()
    local a = Mine()
    command.merge(a, {"+one=1"})
    local b = a:copy()
    command.merge(a, {"+two=2"})
    assert.equal(1, b.one)
    assert.is_false(b:has("two"))
  end)

  it("names every missing field at once", function()
    local Needy = config.Config.extend("MyConfig", {
      train = {batch_size = required()}, arch = {model = required {help = "the network"}},
    })
    local problem = message(function() Needy {}:check_completeness() end)
    has("MyConfig is not complete: give a value to arch.model (the network), train.batch_size", problem)
    local c = Needy {train = {batch_size = 4}, arch = {model = print}}
    assert.equal(c, c:check_completeness())
  end)

  it("tells which given values nothing has read", function()
    local c = Mine()
    command.merge(c, {"rate=0.2", "steps=3"})
    assert.equal(0.2, c.rate)
    assert.same({"steps"}, c:unread())
  end)

  it("of a training program has the fields a task reads", function()
    local c = config.Config {batch_size = 16}
    assert.equal(16, c.batch_size)
    assert.equal(1e-3, c.optim.lr)
  end)
end)

describe("extend", function()
  it("inherits fields and keeps their help and limits with a new default", function()
    local Child = Mine.extend("ChildConfig", {rate = 0.7, more = 1, inner = {size = 4}})
    local c = Child()
    assert.same({0.7, 1, 4, true}, {c.rate, c.more, c.inner.size, c.inner.deep.on})
    has("rate must be at most 1", message(Child, {rate = 3}))
    assert.is_true(c:is(Mine))
  end)

  it("leaves the parent as it was", function()
    Mine.extend("ChildConfig", {rate = 0.7})
    assert.equal(0.1, Mine().rate)
  end)

  it("takes another config class as a section", function()
    local Outer = config.BareConfig.extend("Outer", {part = Mine})
    assert.equal(0.1, Outer().part.rate)
  end)

  it("refuses a new default of another type", function()
    has('ChildConfig: the new default of rate must be a number, not "x"', message(Mine.extend, "ChildConfig", {rate = "x"}))
  end)

  it("refuses a field with the name of a method", function()
    has("a field cannot be called 'get'", message(Mine.extend, "C", {get = 1}))
  end)

  it("refuses arguments in the wrong places", function()
    has("extend takes a name and a table of fields", message(Mine.extend, {a = 1}))
  end)

  it("refuses unknown options of a field", function()
    has("ai.field: no option 'hlep'; did you mean 'help'?", message(field, 1, {hlep = "x"}))
    has("ai.field: no type 'nubmer'; did you mean 'number'?", message(field, 1, {type = "nubmer"}))
    has("ai.field: the default must be one of 1, 2, not 3", message(field, 3, {choices = {1, 2}}))
  end)
end)

describe("a reference", function()
  local Refers = config.BareConfig.extend("RefersConfig", {
    size = 3, width = field("${size}", {type = "integer", min = 1}), name = field("net"), path = field("/runs/${name}-${inner.size}"),
    list = field {1, "${size}"},
    inner = {size = 5, same = field("${.size}", {type = "number"}), up = field("${..size}", {type = "number"}), home = field("${env:AIJIT_NOTHING,/tmp}")},
  })

  it("has the value of the field it names, with its type; in a longer text, its text", function()
    local c = Refers {size = 7}
    assert.same({7, "/runs/net-5", 5, 7, "/tmp"}, {c.width, c.path, c.inner.same, c.inner.up, c.inner.home})
    assert.same({1, 7}, c.list)
    c.size = 8
    assert.equal(8, c.width)
    assert.equal(8, c:to_table().width)
    assert.equal("${size}", c:to_table({resolve = false}).width)
  end)

  it("is followed in what files, the environment and the command line give", function()
    local c = Refers()
    command.merge(c, {"width=${inner.size}", "name=a${size}b"}, {getenv = function() end})
    assert.same({5, "a3b", "/runs/a3b-5"}, {c.width, c.name, c.path})
    assert.matches("width +integer >= 1 +\"%${size}\"\n +%= 5  %(command line: \"%${inner.size}\"%)", text.help(c, "x"))
    assert.matches("width: 5 +# command line: \"%${inner.size}\"", text.annotated(c))
  end)

  it("to the environment has the variable's value, or its default", function()
    local home = os.getenv "HOME"
    assert.equal(home, Refers {name = "${env:HOME}"}.name)
    assert.equal(12, Refers {width = "${env:AIJIT_NOTHING,12}"}.width)
    assert.equal(12, Refers {width = "${oc.env:AIJIT_NOTHING, 12}"}.width)
    assert.equal("5x", Refers {name = "${env:AIJIT_NO${size},${inner.size}x}"}.name)
    has("the environment has no AIJIT_NOTHING", message(function() return Refers {name = "${env:AIJIT_NOTHING}"}.name end))
  end)

  it("that leads nowhere is an error that names both ends", function()
    has("name: ${siez}: RefersConfig has no field 'siez'; did you mean 'size'?", message(function() return Refers {name = "${siez}"}.name end))
    has("refers to itself", message(function() return Refers {size = "${width}"}.size end))
    has("width must be at least 1, not -1 (it is", message(function() return Refers {size = -1}.width end))
    has("a '${' is not closed", message(function() return Refers {name = "${size"}.name end))
    has("${a b}: ${a.b} names a field", message(function() return Refers {name = "${a b}"}.name end))
    has("no section so far above", message(function() return Refers {name = "${...size}"}.name end))
  end)

  it("to a resolver has what its function gives", function()
    config.Config.add_resolver("spec.double", function(x) return 2 * tonumber(x) end)
    assert.equal(14, Refers {size = 7, width = "${spec.double:${size}}"}.width)
    assert.equal(os.date "%Y", Refers {name = "${now:%Y}"}.name)
    has("there is no resolver 'nwo'; did you mean 'now'?", message(function() return Refers {name = "${nwo:%Y}"}.name end))
    has("${spec.double:x}: ", message(function() return Refers {name = "${spec.double:x}"}.name end))
    has("add_resolver takes a name and a function", message(config.Config.add_resolver, "a b", print))
    has("'env' is there already", message(config.Config.add_resolver, "env", print))
  end)

  it("may be kept from being one", function() assert.equal("a ${size}", Refers {name = "a \\${size}"}.name) end)

  it("is looked up by check_completeness, which names all that are wrong", function()
    local problem = message(function() Refers {name = "${siez}", inner = {home = "${inner.what}"}}:check_completeness() end)
    has("has no field 'siez'", problem)
    has("has no field 'what'", problem)
  end)

  it("goes with a copy, and sees the copy's values", function()
    local a = Refers()
    local b = a:copy()
    b.size = 9
    assert.same({3, 9, 9}, {a.width, b.width, b.inner.up})
  end)
end)

describe("a frozen config", function()
  it("refuses every change, and its lists do not change under it", function()
    local c = Mine():freeze " since its launch"
    has("rate cannot be changed: the config is frozen since its launch", message(function() c.rate = 0.2 end))
    has("inner.size cannot be changed", message(function() c.inner.size = 1 end))
    has("steps cannot be changed", message(c.set, c, "steps", 1))
    has("extra cannot be changed", message(command.merge, c, {"+extra=1"}))
    has("rate cannot be changed", message(command.merge, c, {"~rate"}))
    c.betas[1] = 7
    assert.same({0.9, 0.99}, c.betas)
    assert.is_true(c:is_frozen())
    local d = c:copy()
    d.rate = 0.2
    assert.equal(0.2, d.rate)
  end)
end)

describe("the difference of two configs", function()
  it("is every field with both values", function()
    local d = Mine {rate = 0.2, limit = 3}:diff(Mine {inner = {deep = {on = false}}})
    assert.same({"inner.deep.on", "limit", "rate"}, {d[1].path, d[2].path, d[3].path})
    assert.same({true, false, 3, nil}, {d[1].from, d[1].to, d[2].from, d[2].to})
    assert.equal("- inner.deep.on: true\n+ inner.deep.on: false\n- limit: 3\n- rate: 0.2\n+ rate: 0.1", tostring(d))
    assert.equal(0, #Mine():diff(Mine():to_table()))
  end)
end)

describe("the user's file", function()
  local user = require "aijit.config.user"
  local folder = process.folder()
  local path = folder .. "/rc.yaml"
  local getenv = os.getenv
  teardown(function() os.execute("rm -r " .. folder) end)
  local variables = {AIJITRC = path}
  before_each(function()
    rawset(os, "getenv", function(name)
      if variables[name] ~= nil then return variables[name] or nil end
      if name == "RUN_DIR" then return nil end
      return getenv(name)
    end)
  end)
  after_each(function() rawset(os, "getenv", getenv) end)
  local function put(content)
    local handle = assert(io.open(path, "w"))
    handle:write(content)
    handle:close()
  end

  it("is written once, with nothing set, and read back", function()
    os.remove(path)
    assert.equal(path, user.create())
    assert.is_nil(user.create())
    assert.same({}, user.files()[1].directories)
    assert.same({}, user.files()[1].defaults)
  end)

  it("gives defaults to fields that the program left alone, under files and the command line", function()
    put "defaults: {rate: 0.5, steps: 3, inner: {size: 9}, of_another_program: 1, some: {section: 2}}\n"
    local c = Mine {steps = 4}
    command.merge(c, {"inner.deep.on=false"}, {getenv = function() end})
    assert.same({0.5, 4, 9}, {c.rate, c.steps, c.inner.size})
    has("(user file " .. path .. ")", text.help(c, "x"))
    command.merge(c, {"rate=0.1"}, {getenv = function() end})
    assert.equal(0.1, c.rate)
  end)

  it("holds directories, which variables overrule", function()
    put "directories: {run: /data/runs/, models: null}\n"
    local ai = require "aijit"
    assert.equal("/data/runs", ai.get_run_dir())
    variables.RUN_DIR = "/other"
    assert.equal("/other", ai.get_run_dir())
    variables.RUN_DIR = nil
    assert.matches("/models$", ai.get_model_dir())
  end)

  it("is refused by name when it holds what it cannot", function()
    put "directoris: {}\n"
    has(path .. ": there is no 'directoris' here; did you mean 'directories'?", message(user.files))
    put "directories: {runs: x}\n"
    has("directories has no 'runs'; did you mean 'run'?", message(user.files))
    put "defaults: {rate: 7}\n"
    has(path .. ": rate must be at most 1", message(command.merge, Mine(), {}))
    put "defaults: [\n"
    has(path .. "': yaml: line", message(user.files))
  end)

  it("is missed by nobody where there is no home, or one that cannot be written", function()
    variables.AIJITRC = ""
    assert.is_nil(user.create())
    assert.same({}, user.files())
    variables.AIJITRC = folder .. "/no/such/rc.yaml"
    assert.is_nil(user.create())
    variables.AIJITRC = false
    variables.HOME = false
    assert.is_nil(user.create())
    variables.AIJITRC, variables.HOME = path, nil
  end)
end)

describe("a value on the command line", function()
  local cases = {
    {"1", 1}, {"-2.5", -2.5}, {"1e-3", 1e-3}, {".5", 0.5}, {"+3", 3}, {"10_000", 10000}, {"true", true}, {"false", false},
    {"abc", "abc"}, {"a b", "a b"}, {"'1'", "1"}, {'"a,b"', "a,b"}, {"'it\\'s'", "it's"}, {"", ""}, {"inf", math.huge},
    {"[]", {}}, {"[1,2]", {1, 2}}, {"[1, [x, 'y z']]", {1, {"x", "y z"}}}, {"{}", {}}, {"{a:1}", {a = 1}},
    {"{a: {b: [1]}, 'c d': x}", {a = {b = {1}}, ["c d"] = "x"}}, {"/some/path.txt", "/some/path.txt"}, {"1.2.3", "1.2.3"},
  }
  for _, case in ipairs(cases) do
    it("is read: " .. case[1], function() assert.same(case[2], grammar.value(case[1])) end)
  end

  it("is read: null", function() assert.equal(grammar.null, grammar.value("null")) end)

  local bad = {
    {"[1,2", "a list wants ',' or ']' here"}, {"'abc", "a quote is not closed"}, {"{a 1}", "a table wants ':' after a"},
    {"[1]]", "nothing may follow the value"}, {"[,]", "a value is missing"}, {"{:1}", "a table wants a name here"},
    {"1,2", "several values"}, {"{a:1", "a table wants ',' or '}' here"},
  }
  for _, case in ipairs(bad) do
    it("is refused: " .. case[1], function() has(case[2], message(grammar.value, case[1])) end)
  end
end)

describe("any text", function()
  it("on the command line or as a reference gives a value or a clear error", function()
    math.randomseed(11)
    local letters = {"a", "1", ".", "[", "]", "{", "}", "(", ")", ",", ":", "'", '"', "\\", "$", "=", "+", "~", " ", "-", "e", "null", "${", "env:", "range("}
    for _ = 1, 20000 do
      local parts = {}
      for i = 1, math.random(8) do parts[i] = letters[math.random(#letters)] end
      local word = table.concat(parts)
      for _, f in ipairs {grammar.value, grammar.override, grammar.sweep, function(w) return Mine {name = w}.name end} do
        local ok, problem = pcall(f, word)
        if not ok then assert(type(problem) == "string" and not problem:find "attempt to" and not problem:find "grammar.lua", problem) end
      end
    end
  end)
end)

describe("the command line", function()
  local function merged(...)
    local c = Mine()
    return c, command.merge(c, {...}, {getenv = function() end})
  end

  it("sets fields", function()
    local c = merged("rate=0.5", "inner.deep.on=false", "betas=[0.5,0.6]", "limit=3")
    assert.same({0.5, false, 3}, {c.rate, c.inner.deep.on, c.limit})
    assert.same({0.5, 0.6}, c.betas)
  end)

  it("sets a section from a table", function()
    assert.equal(7, merged("inner={size: 7}").inner.size)
  end)

  it("takes null for no value", function() assert.is_nil(merged("limit=3", "limit=null").limit) end)

  it("gives a text field its text, even when that looks like a number", function()
    assert.equal("0012", merged("name=0012").name)
    assert.equal("true", merged("name=true").name)
  end)

  it("refuses a field that is not there, and says how to add it", function()
    has("did you mean 'rate'? (+raet=1 adds it)", message(merged, "raet=1"))
  end)

  it("adds a field with +, in new sections too", function()
    local c = merged("+extra=1", "+new.part.x=[1]", "extra=2")
    assert.equal(2, c.extra)
    assert.same({1}, c.new.part.x)
    assert.same({part = {x = {1}}}, c:to_table().new)
  end)

  it("does not add to other configs of the class", function()
    merged("+extra=1", "+inner.extra=1")
    assert.is_false(Mine():has("extra"))
    assert.is_false(Mine():has("inner.extra"))
  end)

  it("refuses + for a field that is there", function()
    has("+rate: it is there already; write rate=1", message(merged, "+rate=1"))
  end)

  it("sets or adds with ++", function()
    local c = merged("++rate=1", "++other=2")
    assert.same({1, 2}, {c.rate, c.other})
  end)

  it("deletes with ~", function()
    local c = merged("~rate", "~inner.size=3")
    assert.is_false(c:has("rate"))
    assert.is_false(c:has("inner.size"))
    has("~rate=5: its value is 0.1", message(merged, "~rate=5"))
  end)

  it("refuses a word that is nothing it knows", function()
    has("argument 'rate' is neither field=value, nor a config file", message(merged, "rate"))
    has("--config wants the name of a file", message(merged, "--config"))
  end)

  it("answers --help with type, default, help, value and origin", function()
    local c, action = merged("rate=0.25", "--help")
    assert.equal("help", action)
    local help = text.help(c, "aijit train.lua")
    has("usage: aijit train.lua", help)
    assert.matches("rate +number 0%.%.1 +0.1 +How fast\n +%= 0.25  %(command line%)", help)
    assert.matches("kind +a|b +\"a\"", help)
    assert.matches("betas +list of number +%[0.9, 0.99%]", help)
  end)

  it("answers --print-config with every value and its origin", function()
    local c, action = merged("inner.deep.on=false", "--print-config")
    assert.equal("print-config", action)
    local printed = text.annotated(c)
    assert.matches("\n  deep:\n    on: false +# command line\n", printed)
    assert.matches("limit: null +# default", printed)
  end)

  it("is checked by parse, which raises for words that were given", function()
    has("rate must be a number", message(Mine.parse, {"rate=x"}))
    local c, answer = Mine.parse {"rate=0.5", "--help"}
    assert.equal(0.5, c.rate)
    has("usage:", answer)
  end)

  it("becomes many by a sweep", function()
    assert.same({{"a=1", "b=x"}, {"a=1", "b=y"}, {"a=[2,3]", "b=x"}, {"a=[2,3]", "b=y"}},
      command.sweep {"-m", "a=1,[2,3]", "b=x,y"})
    assert.same({{"a=1", "c.yaml"}}, command.sweep {"a=1", "c.yaml"})
    assert.same({{"a=0"}, {"a=1"}, {"a=2"}}, command.sweep {"-m", "a=range(3)"})
    assert.same({{"a=1"}, {"a=1.5"}, {"a=x"}, {"a=[1,2]"}}, command.sweep {"-m", "a=range(1,2,0.5),choice(x,[1,2])"})
    has("a range is range(END)", message(command.sweep, {"-m", "a=range(x)"}))
    has("a sweep over nothing", message(command.sweep, {"-m", "a=range(0)"}))
  end)
end)

describe("the environment", function()
  local function with(variables)
    return {getenv = function(name) return variables[name] end}
  end

  it("sets fields: AIJIT__INNER__SIZE for inner.size", function()
    local c = Mine()
    command.merge(c, {}, with {AIJIT__INNER__SIZE = "12", AIJIT__NAME = "007"})
    assert.same({12, "007"}, {c.inner.size, c.name})
  end)

  it("yields to the command line", function()
    local c = Mine()
    command.merge(c, {"steps=2"}, with {AIJIT__STEPS = "1"})
    assert.equal(2, c.steps)
  end)

  it("is named in errors", function()
    has('AIJIT__STEPS: steps must be an integer, not "x"', message(command.merge, Mine(), {}, with {AIJIT__STEPS = "x"}))
  end)
end)

describe("a config file", function()
  local folder = process.folder()
  local function write(name, content)
    local handle = assert(io.open(folder .. "/" .. name, "wb"))
    handle:write(content)
    handle:close()
    return folder .. "/" .. name
  end
  teardown(function() os.execute("rm -r " .. folder) end)

  it("in Lua returns a table and sees nothing of the program", function()
    assert.same({rate = 0.5}, file.read(write("a.lua", "return {rate = 1 / 2}")))
    has("attempt to", message(file.read, write("b.lua", "os.exit(3)")))
    has("attempt to", message(file.read, write("b.lua", "return {x = require 'os'}")))
  end)

  it("in Lua ends after so many steps or bytes, and has no methods of strings", function()
    has("more than 10000000 steps", message(file.read, write("d.lua", "while true do end")))
    has("it takes more than 64 MB", message(file.read, write("e.lua", "local s = 'xxxxxxxxxxxxxxxx' while true do s = s .. s end")))
    has("attempt to", message(file.read, write("f.lua", "return {('x'):rep(1e9)}")))
    has("it holds a function", message(file.read, write("g.lua", "return {f = function() end}")))
    has("nests deeper than 512", message(file.read, write("h.lua", "local t = {} t.t = t return t")))
    assert.equal("xx", ("x"):rep(2))
    assert.is_nil((debug.gethook()))
  end)

  it("is loaded with others by load", function()
    local a, b = write("one.yaml", "rate: 0.2\nsteps: 1\n"), write("two.json", '{"rate": 0.3}')
    local c = Mine.load(a, b)
    assert.same({0.3, 1}, {c.rate, c.steps})
    has("two.json: rate must be at most 1", message(Mine.load, write("two.json", '{"rate": 3}')))
  end)

  it("in Lua is text, never bytecode", function()
    has("attempt to load", message(file.read, write("c.lua", string.dump(function() return {} end))))
  end)

  it("is merged in order, under the command line", function()
    local a, b = write("one.lua", "return {rate = 0.2, steps = 1}"), write("two.lua", "return {rate = 0.3, inner = {size = 5}}")
    local c = Mine()
    command.merge(c, {a, b, "steps=9"}, {getenv = function() end})
    assert.same({0.3, 9, 5}, {c.rate, c.steps, c.inner.size})
    has("(file " .. b .. ")", text.help(c, "x"))
  end)

  it("is named in errors", function()
    local bad = write("bad.lua", "return {inner = {sizes = 1}}")
    has("bad.lua': section 'inner' has no field 'sizes'", message(command.merge, Mine(), {bad}))
    has("config file 'no/such.lua' cannot be opened", message(file.read, "no/such.lua"))
    has("holds number, not a table", message(file.read, write("n.lua", "return 3")))
    has("its name must end in", message(file.read, "a.toml"))
  end)

  it("in YAML is read: words such as no are texts, 1e-3 is a number", function()
    local c = Mine()
    command.merge(c, {write("a.yaml", 'rate: 1e-3\nname: no\ninner:\n  deep: {on: false}\nlimit: null\nbetas: [1, 2]\n')})
    assert.same({1e-3, false, "no"}, {c.rate, c.inner.deep.on, c.name})
    assert.same({1, 2}, c.betas)
  end)

  it("in YAML gives back what tostring wrote", function()
    local odd = {name = "yes", rate = 1e-5, betas = {1 / 3, 1e20}}
    local c, d = Mine(odd), Mine()
    command.merge(d, {write("b.yaml", tostring(c))})
    assert.is_true(c == d)
    assert.equal("yes", d.name)
  end)

  it("in YAML names the line of a mistake", function()
    has("b.yaml': yaml: line 2, column 1: the key \"rate\" stands here for a second time", message(file.read, write("b.yaml", "rate: 1\nrate: 2\n")))
  end)

  it("in JSON is read", function()
    local c = Mine()
    command.merge(c, {write("a.json", '{"rate": 0.25, "limit": null, "betas": []}')})
    assert.equal(0.25, c.rate)
    assert.same({}, c.betas)
  end)
end)

describe("ai.main", function()
  local luajit = "luajit"
  local lua_folder = require("aijit.tree").lua
  local folder = process.folder()
  teardown(function() os.execute("rm -r " .. folder) end)

  local function run(command_line)
    local path = ("LUA_PATH='%s/?.lua;%s/?/init.lua;%s/?.lua;;'"):format(lua_folder, lua_folder, folder)
    local pipe = io.popen(("cd %s && %s %s %s 2>&1"):format(folder, path, luajit, command_line))
    local output = pipe:read("*a")
    pipe:close()
    return output
  end
  local function write(name, content)
    local handle = assert(io.open(folder .. "/" .. name, "wb"))
    handle:write(content)
    handle:close()
  end
  write("train.lua", 'local main = require "aijit".main\nio.write("train:", tostring(main(...)), " ")\nreturn {}\n')
  write("other.lua", 'require "train"\nlocal main = require "aijit".main\nio.write("other:", tostring(main(...)), " ")\n')
  write("self.lua", 'local main = require "aijit".main\nlocal is = main(...)\nio.write(tostring(is), " ")\n'
    .. 'if is then require "self" end\n')
  write("inside.lua", 'local main = require "aijit".main\n'
    .. 'local function f(...) return (main(...)) end\nio.write(tostring(f(...)))\n')
  write("dofile.lua", 'dofile "train.lua"\n')

  it("is true in the program, with and without arguments", function()
    assert.equal("train:true ", run "train.lua")
    assert.equal("train:true ", run "./train.lua a=1 --help")
    assert.equal("train:true ", run(folder .. "/train.lua x"))
  end)

  it("is false in what the program requires", function() assert.equal("train:false other:true ", run "other.lua train") end)

  it("is false in a program that is required under its own name", function() assert.equal("true false ", run "self.lua") end)

  it("is false within a function", function() assert.equal("false", run "inside.lua") end)

  it("is false under dofile", function() assert.equal("train:false ", run "dofile.lua") end)

  it("is true for a program from standard input", function() assert.equal("train:true ", run "- < train.lua") end)
end)

describe("nearest names", function()
  it("counts letters put in, taken out, replaced and exchanged", function()
    assert.equal(0, nearest.distance("abc", "abc"))
    assert.equal(1, nearest.distance("abc", "acb"))
    assert.equal(1, nearest.distance("abc", "abcd"))
    assert.equal(3, nearest.distance("", "abc"))
    assert.equal(3, nearest.distance("kitten", "sitting"))
  end)

  it("come closest first, three at most", function()
    assert.same({"size", "sizes"}, nearest.find("siz", {"sizes", "size", "shape", "stride"}))
    assert.same({}, nearest.find("zzz", {"a", "b"}))
  end)
end)
