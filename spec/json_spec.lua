local json = require "aijit.json"
require "support.like"

local function fails(f, ...) assert.has_error_like(f, ...) end

describe("json.decode", function()
  it("reads every kind of value", function()
    assert.are.same({a = {1, 2.5, -3e7, true, false}, b = {c = "x"}}, json.decode '{"a": [1, 2.5, -3e7, true, false], "b": {"c": "x"}}')
    for text, value in pairs{["1"] = 1, ["-0"] = 0, ["1e3"] = 1000, ['"x"'] = "x", ["true"] = true, ["false"] = false, [" \t\r\n7 "] = 7} do
      assert.are.equal(value, json.decode(text))
    end
  end)

  it("reads null as json.null, or as what is asked for", function()
    assert.are.equal(json.null, json.decode "null")
    assert.are.same({1, json.null, 3}, json.decode "[1,null,3]")
    assert.are.same({false}, json.decode("[null]", {null = false}))
    assert.are.equal("null", tostring(json.null))
  end)

  it("keeps strings as they are: escapes, zeros, every plane of Unicode", function()
    assert.are.equal('"\\/\b\f\n\r\t', json.decode [["\"\\\/\b\f\n\r\t"]])
    assert.are.equal("\0", json.decode [["\u0000"]])
    assert.are.equal("é日😀", json.decode [["\u00e9\u65e5\ud83d\ude00"]])
    assert.are.equal("é日😀", json.decode '"é日😀"')
  end)

  it("keeps integers up to 2^53 exact, and numbers to the last bit", function()
    assert.are.equal(9007199254740992, json.decode "9007199254740992")
    assert.are.equal(-9007199254740991, json.decode "-9007199254740991")
    assert.are.equal(0.1, json.decode "0.1")
    assert.are.equal(5e-324, json.decode "5e-324")
    assert.are.equal(1.7976931348623157e308, json.decode "1.7976931348623157e308")
    assert.are.equal(-math.huge, 1 / json.decode "-0.0")
  end)

  it("rounds larger integers, or gives them as int64", function()
    assert.are.equal(9007199254740992, json.decode "9007199254740993")
    assert.are.equal(1e30, json.decode "1000000000000000000000000000000")
    assert.are.equal("9007199254740993LL", tostring(json.decode("[9007199254740993]", {int64 = true})[1]))
    assert.are.equal("number", type(json.decode("[9007199254740992]", {int64 = true})[1]))
    fails(function() json.decode("9223372036854775808", {int64 = true}) end, "too big integer")
  end)

  it("keeps empty arrays apart from empty objects", function()
    assert.is_true(json.is_array(json.decode "[]"))
    assert.is_false(json.is_array(json.decode "{}"))
    assert.are.equal('{"a":[],"b":{}}', json.encode(json.decode '{"a":[],"b":{}}'))
  end)

  it("reads NaN and infinities from strings if asked to", function()
    local list = json.decode('["NaN","Infinity","-Infinity","nan"]', {special = "string"})
    assert.is_true(list[1] ~= list[1])
    assert.are.same({math.huge, -math.huge, "nan"}, {list[2], list[3], list[4]})
    assert.are.equal("NaN", json.decode '"NaN"')
  end)

  it("goes 512 levels deep, and says where it is deeper", function()
    assert.is_truthy(json.decode(("["):rep(512) .. ("]"):rep(512)))
    assert.is_truthy(json.decode(('{"a":'):rep(511) .. "[" .. "]" .. ("}"):rep(511)))
    fails(function() json.decode("\n" .. ("["):rep(513) .. ("]"):rep(513)) end, "line 2, column 513: nested deeper than 512")
    fails(function() json.decode(("["):rep(1000000)) end, "nested deeper than 512")
    fails(function() json.decode(('{"a":'):rep(100000)) end, "nested deeper than 512")
    assert.are.equal(("["):rep(600), json.decode('"' .. ("["):rep(600) .. '"'))
    assert.are.equal('"' .. ("["):rep(600), json.decode('"\\"' .. ("["):rep(600) .. '"'))
  end)

  describe("refuses, with line and column:", function()
    for _, case in ipairs{
      {"an empty text", "", "line 1, column 1"},
      {"spaces", " \n ", "line 2, column"},
      {"a duplicate key", '{"a":1,\n"a":2}', "line 2, column 3: duplicate object key"},
      {"a duplicate key behind an escape", '{"a":1,"\\u0061":2}', "duplicate object key"},
      {"text after the document", "[1] x", "line 1, column 5: end of file expected"},
      {"two documents", "{}{}", "end of file expected"},
      {"a comma at the end of an array", "[1,]", "unexpected token"},
      {"a comma at the end of an object", '{"a":1,}', "string or '}' expected"},
      {"no comma", "[1 2]", "']' expected"},
      {"no colon", '{"a" 1}', "':' expected"},
      {"a key that is a number", "{1:2}", "string or '}' expected"},
      {"an array without an end", "[1", "']' expected near end of file"},
      {"an object without an end", '{"a":1', "'}' expected near end of file"},
      {"a string without an end", '"abc', "premature end of input"},
      {"a bracket too many", "]", "unexpected token"},
      {"single quotes", "'a'", "invalid token"},
      {"a comment", "[1] // x", "end of file expected"},
      {"NaN", "[NaN]", "invalid token"},
      {"Infinity", "[Infinity]", "invalid token"},
      {"a plus sign", "+1", "invalid token"},
      {"a leading zero", "[01]", "invalid token"},
      {"a point without digits", "[1.]", "invalid token"},
      {"a number that begins with a point", "[.5]", "invalid token"},
      {"an exponent without digits", "[1e]", "invalid token"},
      {"hexadecimal", "[0x10]", "']' expected"},
      {"a real number past the largest", "[1e999]", "real number overflow"},
      {"True", "[True]", "invalid token"},
      {"nul", "nul", "invalid token"},
      {"a line break in a string", '"a\nb"', "unexpected newline"},
      {"a control byte in a string", '"a\1b"', "control character"},
      {"an escape that there is not", [["\x41"]], "invalid escape"},
      {"an escape cut short", [["\u12"]], "invalid escape"},
      {"a lone surrogate", [["\ud800"]], "invalid Unicode"},
      {"a surrogate pair turned round", [["\ude00\ud83d"]], "invalid Unicode"},
      {"bytes that are not UTF-8", '"\255"', "unable to decode byte 0xff"},
      {"an overlong form", '"\192\175"', "unable to decode byte 0xc0"},
      {"a surrogate in UTF-8", '"\237\160\128"', "unable to decode byte 0xed"},
      {"a zero byte in a key", [[{"\u0000":1}]], "NUL byte in object key"},
      {"a zero byte in the text", "[1]\0", "line 1, column"},
      {"a byte order mark", "\239\187\191{}", "byte order mark"},
    } do
      it(case[1], function()
        fails(function() json.decode(case[2]) end, "json: line %d+, column %d+: ")
        fails(function() json.decode(case[2]) end, case[3])
      end)
    end
    it("what is not a string", function() fails(function() json.decode(nil) end, "must be a string, got nil") end)
  end)
end)

describe("json.encode", function()
  it("writes arrays and objects, keys in order", function()
    assert.are.equal('{"a":[1,2,3],"b":{"c":true,"d":null},"z":"x"}', json.encode{z = "x", b = {d = json.null, c = true}, a = {1, 2, 3}})
    assert.are.equal("[]", json.encode(json.array{}))
    assert.are.equal("{}", json.encode{})
    assert.are.equal('{"1":"a","2":"b"}', json.encode(json.object{"a", "b"}))
    assert.are.equal("null", json.encode(nil))
  end)

  it("writes as many digits as read back the same, 15 to 17", function()
    for value, text in pairs{[0.1] = "0.1", [1e21] = "1e+21", [1 / 3] = "0.3333333333333333", [123456789] = "123456789", [-1.5] = "-1.5",
      [2 ^ 53] = "9007199254740992", [5e-324] = "4.94065645841247e-324"} do
      assert.are.equal(text, json.encode(value))
    end
    assert.are.equal("-0.0", json.encode(-0.0))
    for _ = 1, 2000 do
      local v = (math.random() - 0.5) * 10 ^ math.random(-300, 300)
      assert.are.equal(v, json.decode(json.encode(v)))
    end
  end)

  it("writes int64 in full", function()
    local big = json.decode("[9223372036854775807,-9223372036854775807]", {int64 = true})
    assert.are.equal("[9223372036854775807,-9223372036854775807]", json.encode(big))
  end)

  it("escapes what must be escaped", function()
    assert.are.equal([["\"\\\b\f\n\r\t\u0000\u001f/é😀"]], json.encode '"\\\b\f\n\r\t\0\31/é😀')
    for i = 0, 127 do assert.are.equal(string.char(i), json.decode(json.encode(string.char(i)))) end
  end)

  it("indents when asked to, arrays of plain values on a line", function()
    assert.are.equal('{\n  "a": [1, 2],\n  "b": [\n    {\n      "c": {}\n    },\n    []\n  ]\n}',
      json.encode({a = {1, 2}, b = {{c = {}}, json.array{}}}, {pretty = true}))
  end)

  it("refuses NaN and infinities, or writes them as strings or null", function()
    for text, value in pairs{NaN = 0 / 0, Infinity = math.huge, ["-Infinity"] = -math.huge} do
      fails(function() json.encode{loss = {1, value}} end, "json.encode: at .loss%[2%]: " .. text:gsub("-", "%%-") .. " has no JSON form")
      assert.are.equal('"' .. text .. '"', json.encode(value, {special = "string"}))
      assert.are.equal("null", json.encode(value, {special = "null"}))
    end
  end)

  it("lets an object say what stands for it", function()
    local Point = {__tojson = function(p) return {p.x, p.y} end}
    assert.are.equal('{"at":[1,2]}', json.encode{at = setmetatable({x = 1, y = 2}, Point)})
  end)

  it("refuses, naming the place", function()
    fails(function() json.encode{a = {b = print}} end, "at .a.b: a function cannot be encoded")
    fails(function() json.encode{coroutine.create(print)} end, "at %[1%]: a thread cannot be encoded")
    fails(function() json.encode{a = {1, 2, x = 3}} end, "at .a: the table has both elements and named fields, or has holes")
    fails(function() json.encode{1, 2, nil, 4} end, "has holes")
    fails(function() json.encode{[true] = 1} end, "the key true is a boolean")
    fails(function() json.encode{[7] = 1} end, "the key 7 is a number")
    fails(function() json.encode(json.object{[1] = 1, ["1"] = 2}) end, 'two keys are written as "1"')
    fails(function() json.encode{a = "x\255"} end, "at .a: the string is not UTF%-8 at byte 2")
    fails(function() json.encode{["\255"] = 1} end, "not UTF%-8")
    local loop = {}
    loop.loop = loop
    fails(function() json.encode(loop) end, "nested deeper than 512: does a table contain itself")
    fails(function() json.array(setmetatable({}, {})) end, "metatable of its own")
    fails(function() json.object(setmetatable({}, {})) end, "metatable of its own")
  end)

  it("mends strings that are not UTF-8 when asked to", function()
    assert.are.equal('"a�b��"', json.encode("a\255b\237\160", {utf8 = "replace"}))
    assert.are.equal('"é"', json.encode("é", {utf8 = "replace"}))
  end)

  it("gives back what it was given, whatever the tree", function()
    local function tree(depth)
      local kind = math.random(depth > 4 and 4 or 6)
      if kind == 1 then return math.random(-1000, 1000) / 8 end
      if kind == 2 then return math.random() < 0.5 end
      if kind == 3 then return json.null end
      if kind == 4 then
        local s = {}
        for i = 1, math.random(0, 8) do s[i] = ({"a", '"', "\\", "é", "\n", "😀", "\0", " "})[math.random(8)] end
        return table.concat(s)
      end
      local t = kind == 5 and json.array{} or {}
      for i = 1, math.random(0, 5) do t[kind == 5 and i or "k" .. i] = tree(depth + 1) end
      return t
    end
    for _ = 1, 300 do
      local value = tree(1)
      local text = json.encode(value)
      assert.are.same(value, json.decode(text))
      assert.are.equal(text, json.encode(json.decode(text)))
      assert.are.equal(text, json.encode(json.decode(json.encode(value, {pretty = true}))))
    end
  end)
end)
