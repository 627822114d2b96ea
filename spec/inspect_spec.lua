local inspect = require("aijit.inspect").inspect

describe("inspect", function()
  it("shows scalars as Lua would read them", function()
    assert.equal("1", inspect(1))
    assert.equal("0.1", inspect(0.1))
    assert.equal("1e+300", inspect(1e300))
    assert.equal("nan", inspect(0 / 0))
    assert.equal("-inf", inspect(-math.huge))
    assert.equal("nil", inspect(nil))
    assert.equal("true", inspect(true))
  end)

  it("keeps every digit that a number needs", function()
    assert.equal(1 / 3, tonumber(inspect(1 / 3)))
    assert.equal("9007199254740991", inspect(2 ^ 53 - 1))
  end)

  it("quotes strings so that they can be pasted back", function()
    local text = 'a "b"\n\\ \0 \1 \t é'
    assert.equal(text, loadstring("return " .. inspect(text))())
  end)

  it("shows a list and a record on one line when they fit", function()
    assert.equal('{1, 2, x = {y = "z"}}', inspect{1, 2, x = {y = "z"}})
  end)

  it("brackets keys that are no names", function()
    assert.equal('{["a b"] = 1, ["end"] = 2}', inspect{["a b"] = 1, ["end"] = 2})
    assert.equal("{[0] = 0, [2.5] = 1, [true] = 2}", inspect{[0] = 0, [2.5] = 1, [true] = 2})
  end)

  it("sorts numbers before names", function()
    assert.equal("{1, [5] = 2, a = 3, b = 4}", inspect{1, [5] = 2, b = 4, a = 3})
  end)

  it("marks a cycle, and shows a table twice that is merely shared", function()
    local t = {}
    t.self = t
    assert.equal("{self = <cycle>}", inspect(t))
    local shared = {1}
    assert.equal("{{1}, {1}}", inspect{shared, shared})
  end)

  it("stops at the depth asked for", function()
    assert.equal("{{{...}}}", inspect({{{{}, 1}}}, {depth = 2}))
    assert.equal("{{...}}", inspect({{1}}, {depth = 1}))
  end)

  it("stops after the items asked for, and counts the rest", function()
    assert.equal("{1, 2, ... 3 more}", inspect({1, 2, 3, 4, 5}, {items = 2}))
  end)

  it("cuts a long string inside a table", function()
    assert.equal('{"aaa" .. 7 more bytes}', inspect({("a"):rep(10)}, {chars = 3}))
  end)

  it("lays a wide table out one entry a line", function()
    assert.equal("{\n  a = 1111111111,\n  b = 2222222222\n}", inspect({a = 1111111111, b = 2222222222}, {width = 20}))
  end)

  it("fills the lines of a plain list", function()
    local text = inspect({100, 200, 300, 400, 500, 600}, {width = 20})
    assert.equal("{\n  100, 200, 300,\n  400, 500, 600\n}", text)
  end)

  it("calls __tostring and nothing else of the value's", function()
    local shown = setmetatable({}, {__tostring = function() return "Thing(3)" end})
    assert.equal("{Thing(3)}", inspect{shown})
    local trap = setmetatable({a = 1}, {__index = function() error "touched" end})
    assert.equal("{a = 1}", inspect(trap))
  end)

  it("survives an error in __tostring", function()
    local bad = setmetatable({}, {__tostring = function() error("no", 0) end})
    assert.equal("<error in __tostring: no>", inspect(bad))
  end)

  it("puts a class's name before its fields", function()
    assert.equal("Point {x = 1}", inspect(setmetatable({x = 1}, {__name = "Point"})))
  end)

  it("tells where a function was written", function()
    assert.matches("^function <.*inspect_spec.lua:%d+>$", inspect(function() end))
    assert.matches("^function: builtin", inspect(print))
  end)

  it("indents a value of several lines", function()
    local lines = setmetatable({}, {__tostring = function() return "1 2\n3 4" end})
    assert.equal("{\n  a = 1 2\n  3 4\n}", inspect{a = lines})
  end)
end)
