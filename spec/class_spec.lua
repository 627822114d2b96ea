local class = require "aijit.class"

local function message(f, ...)
  local ok, problem = pcall(f, ...)
  assert.is_false(ok)
  return tostring(problem)
end

describe("a class", function()
  it("makes objects through __init", function()
    local Point = class("Point")
    function Point:__init(x, y) self.x, self.y = x, y end
    local p = Point(1, 2)
    assert.same({1, 2}, {p.x, p.y})
  end)

  it("hands nil arguments to __init in their places", function()
    local Count = class("Count")
    function Count:__init(...) self.n = select("#", ...) end
    assert.equal(3, Count(nil, 1, nil).n)
  end)

  it("needs no __init", function() assert.is_table(class("Empty")()) end)

  it("inherits methods, and __init when it has none of its own", function()
    local Animal = class("Animal")
    function Animal:__init(name) self.name = name end
    function Animal:hello() return "I am " .. self.name end
    local Dog = class("Dog", Animal)
    assert.equal("I am Rex", Dog("Rex"):hello())
  end)

  it("holds inherited methods itself, so that a call is one look-up", function()
    local A = class("A")
    function A:f() end
    assert.equal(A.f, rawget(class("B", A), "f"))
  end)

  it("inherits metamethods: __call, __tostring, __add", function()
    local A = class("A")
    function A:__call(x) return x * self.k end
    function A.__add(a, b) return a.k + b.k end
    function A:__tostring() return "A(" .. self.k .. ")" end
    local B = class("B", A)
    function B:__init(k) self.k = k end
    assert.equal(6, B(2)(3))
    assert.equal(5, B(2) + B(3))
    assert.equal("A(2)", tostring(B(2)))
  end)

  it("inherits a parent's own __index", function()
    local A = class("A")
    function A.__index(_, key) return "no " .. key end
    assert.equal("no x", class("B", A)().x)
  end)

  it("takes a name from the first of several parents that has it", function()
    local A, B = class("A"), class("B")
    function A.f() return "A" end
    function B.f() return "B" end
    function B.g() return "B" end
    local C = class("C", A, B)
    assert.same({"A", "B"}, {C.f(), C.g()})
  end)

  it("has its name, and says it", function()
    local A = class("Linear")
    assert.equal("Linear", A.__name)
    assert.equal("class Linear", tostring(A))
    assert.equal("Linear object", tostring(A()))
  end)

  it("refuses a name that is no string", function()
    assert.matches("the first argument is the class's name, a string; got table", message(class, {}))
  end)

  it("refuses a parent that is nil, as a misspelt one is", function()
    assert.matches("parent 1 of Net is nil: is its name spelt right", message(class, "Net", nil))
    assert.matches("class_spec.lua:%d+:", message(function() class("Net", nil) end))
  end)

  it("refuses a parent that is no class", function()
    assert.matches("parent 2 of Net is a table, not a class made by ai.class", message(class, "Net", class "A", {}))
  end)

  it("names class and method when an abstract method is called", function()
    local Shape = class("Shape")
    Shape.area = class.abstract "area"
    local Square = class("Square", Shape)
    assert.matches("Square has no method 'area': write  function Square:area", message(function() Square():area() end))
  end)

  it("is compiled: a method call in a loop leaves no trace behind that failed", function()
    local Adder = class("Adder")
    function Adder:__init() self.sum = 0 end
    function Adder:add(n) self.sum = self.sum + n end
    local adder = class("Sub", Adder)()
    for i = 1, 1000 do adder:add(i) end
    assert.equal(500500, adder.sum)
  end)
end)

describe("is", function()
  local A = class("A")
  local B = class("B", A)
  local C = class("C")

  it("is true for the class and its ancestors", function()
    assert.is_true(class.is(B(), B))
    assert.is_true(class.is(B(), A))
    assert.is_true(B():is(A))
  end)

  it("is false for other classes and for children", function()
    assert.is_false(class.is(B(), C))
    assert.is_false(class.is(A(), B))
  end)

  it("may be asked about any value", function()
    for _, value in ipairs {1, "x", true, {}, print, A} do assert.is_false(class.is(value, A)) end
    assert.is_false(class.is(nil, A))
  end)

  it("refuses what is no class", function()
    assert.matches("the second argument is a nil, not a class", message(class.is, B(), nil))
  end)

  it("knows subclasses", function()
    assert.is_true(class.is_subclass(B, A))
    assert.is_false(class.is_subclass(A, B))
    assert.is_false(class.is_subclass(3, A))
  end)
end)
