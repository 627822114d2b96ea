local command = require "aijit.config.command"
local config = require "aijit.config"
local configs = require "support.configs"
local process = require "support.process"
local text = require "aijit.config.text"

local field, required = config.field, config.required
local message, has, Mine = configs.message, configs.has, configs.Mine

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
