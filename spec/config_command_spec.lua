local command = require "aijit.config.command"
local configs = require "support.configs"
local grammar = require "aijit.config.grammar"
local text = require "aijit.config.text"

local message, has, Mine = configs.message, configs.has, configs.Mine

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
    has("argument 'rate' is neither field=value, nor a config file, nor an option (a field wants a value: rate=...)", message(merged, "rate"))
    has("there is no option --hlep; did you mean '--help'?", message(merged, "--hlep"))
    has("there is no option --zzzzzzzzz; there is --checkpoint", message(merged, "--zzzzzzzzz"))
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
