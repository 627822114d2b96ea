local yaml = require "aijit.yaml"
local json = require "aijit.json"

local function raises(f, text)
  local ok, message = pcall(f)
  assert.is_false(ok)
  if not tostring(message):find(text, 1, true) then assert.are.equal(text, message) end
end
local function fails(source, text) raises(function() yaml.decode(source) end, text) end

describe("yaml.decode", function()
  it("reads maps, lists, and both in brackets", function()
    assert.are.same({a = {1, {b = 2}, {"c", "d"}}, e = {f = {g = "h"}}}, yaml.decode [[
# a comment
a:
  - 1
  - b: 2
  - [c, d]
e: {f: {g: h}}
]])
    assert.are.same({a = {1, 2}}, yaml.decode '{"a": [1, 2]}')
  end)

  it("takes for numbers, booleans and null what the core schema of YAML 1.2 does", function()
    for text, value in pairs{
      ["1"] = 1, ["-07"] = -7, ["+3"] = 3, ["0x1F"] = 31, ["0o17"] = 15, ["1e-3"] = 1e-3, [".5"] = 0.5, ["5."] = 5, ["-1.5E+2"] = -150,
      [".inf"] = math.huge, ["-.INF"] = -math.huge, ["true"] = true, ["False"] = false, ["~"] = json.null, ["Null"] = json.null,
      ["99999999999999999999"] = 1e20,
    } do assert.are.equal(value, yaml.decode("a: " .. text).a) end
    local nan = yaml.decode ".nan"
    assert.is_true(nan ~= nan)
    assert.are.equal(json.null, yaml.decode("a:\nb: 1").a)
  end)

  it("keeps as text what only YAML 1.1 reads as something else", function()
    for _, text in ipairs{"no", "yes", "on", "off", "y", "1:30", "2024-01-01", "1_000", "0b11", "0x", "1e", ".", "-", "nan", "inf", "tRUE", "-0x1F"} do
      assert.are.equal(text, yaml.decode("[" .. text .. "]")[1])
    end
  end)

  it("keeps texts in quotes texts, with their escapes", function()
    assert.are.same({"1", "true", "it's", "a\n\t\0é😀"}, yaml.decode [=[["1", 'true', 'it''s', "a\n\t\0\u00e9\U0001F600"]]=])
    assert.are.same({a = "one\ntwo\n", b = "one two"}, yaml.decode "a: |\n  one\n  two\nb: >-\n  one\n  two\n")
  end)

  it("follows YAML's own tags, and refuses others", function()
    assert.are.same({"1", 1, 2, true}, yaml.decode "[!!str 1, !!int '1', !!float 2, !!bool 'true']")
    assert.are.same({a = {}}, yaml.decode "a: !!map {}")
    fails("a: !!python/object:os.system x", "line 1, column 4: this tag cannot be read here")
    fails("a:\n  - !mine x", "line 2, column 5: only YAML's own tags")
    fails("!!int x", "not what its tag says")
    fails("!!map [1]", "a list can have no tag")
  end)

  it("keeps empty lists apart from empty maps, and reads nothing as null", function()
    local value = yaml.decode "a: []\nb: {}"
    assert.is_true(json.is_array(value.a))
    assert.is_false(json.is_array(value.b))
    for _, text in ipairs{"", "# nothing\n", "---\n", "---\n...\n"} do assert.are.equal(json.null, yaml.decode(text)) end
    assert.are.equal(false, yaml.decode("~", {null = false}))
  end)

  it("gives integers beyond 2^53 as int64 if asked to", function()
    assert.are.equal("9007199254740993LL", tostring(yaml.decode("[9007199254740993]", {int64 = true})[1]))
    raises(function() yaml.decode("9223372036854775808", {int64 = true}) end, "does not fit")
  end)

  it("copies what an alias names; << puts a map's fields under those that are there", function()
    local value = yaml.decode "a: &a {x: 1, y: [2]}\nb: *a\nc: {<<: *a, x: 3}\nd: {<<: [{z: 1}, *a], x: 4}"
    assert.are.same({x = 1, y = {2}}, value.b)
    assert.are_not.equal(value.a, value.b)
    assert.are.same({x = 3, y = {2}}, value.c)
    assert.are.same({x = 4, y = {2}, z = 1}, value.d)
    assert.are.same({["<<"] = 1}, yaml.decode "{'<<': 1}")
    fails("{<<: 1}", "takes a map")
    fails("a: *b", "line 1, column 4: there is no anchor &b before")
    fails("&a [*a]", "stands inside what it names")
  end)

  it("refuses a billion laughs", function()
    local lines = {"a0: &a0 [x, x, x, x, x, x, x, x, x, x]"}
    for i = 1, 9 do lines[i + 1] = ("a%d: &a%d [%s]"):format(i, i, (("*a%d, "):format(i - 1)):rep(10)) end
    fails(table.concat(lines, "\n"), "aliases stand for more than 1000000 values")
    local deep = {"a0: &a0 [x]"}
    for i = 1, 600 do deep[i + 1] = ("a%d: &a%d [*a%d]"):format(i, i, i - 1) end
    fails(table.concat(deep, "\n"), "nests deeper than 512")
    fails("- &a 1\n" .. ("- &a 1\n"):rep(10000), "more than 10000 anchors")
  end)

  it("goes 512 levels deep, and says where it is deeper", function()
    assert.is_truthy(yaml.decode(("["):rep(512) .. ("]"):rep(512)))
    fails(("["):rep(513) .. ("]"):rep(513), "line 1, column 513: nested deeper than 512")
    fails(("["):rep(100000), "nested deeper than 512")
    fails(("- "):rep(600) .. "x", "nested deeper than 512")
  end)

  it("names line and column of every mistake", function()
    fails("a: 1\nb: 2\na: 3\n", 'line 3, column 1: the key "a" stands here for a second time; the first is on line 1')
    fails("a: 1\n  b: 2\n", "line 2, column 4: mapping values are not allowed")
    fails("a: [1, 2\nb: 3\n", "yaml: line 2")
    fails("a: 'x\n", "yaml: line 2")
    fails("\tx: 1", "yaml: line 1")
    fails("a: 1\n--- 2\n", "line 2, column 1: a second document")
    fails("{[1]: 2}", "cannot be a key")
    fails("? {a: 1}\n: 2", "cannot be a key")
    fails("ok: 1\nb: \255\n", "line 2, column 4: invalid leading UTF-8")
    fails("a: \1", "control characters are not allowed")
    fails("a: @b", "yaml: line 1, column 4")
    fails("%YAML 3.0\n---\na", "found incompatible YAML document")
    fails({}, "must be a string, got table")
  end)
end)

describe("yaml.encode", function()
  it("writes values before tables, each by name, short lists on one line", function()
    assert.are.equal([[
betas: [0.9, 0.999]
lr: 0.001
name: adam w
layers:
  - size: 3
    type: linear
  - relu
  - - [1, 2]
    - {}
model:
  deep:
    x: true
]], yaml.encode{lr = 1e-3, betas = {0.9, 0.999}, name = "adam w", model = {deep = {x = true}},
      layers = {{type = "linear", size = 3}, "relu", {{1, 2}, {}}}})
  end)

  it("writes what it reads back the same", function()
    local words = {"", " ", "a", "no", "Null", "~", "1", "1e5", ".5", "0x1", "-", "- a",
      "a: b", "a #b", "#", "&a", "*a", "!a", "%", "@", "`", "{", "[", "]", ",",
      "a,b", "'", '"', "\\", "a\nb\n", "\t", "\r\n", "\0", "\127", "é", "\194\133", "\226\128\168", "\239\187\191", "日本", "😀",
      "<<", "=", "a  b", " a", "a ", "?", ":", "a:",
      "|", ">", "12:30", "2024-01-01",
      "true", "1_0", "..", "...", "---", ("x"):rep(3000), "\239\191\190", "\27[0m"}
    for _, word in ipairs(words) do
      local value = {list = {word, {word}}, [word] = word, inner = {[word .. "x"] = {a = word}}}
      assert.are.same(value, yaml.decode(yaml.encode(value)))
      assert.are.equal(word, yaml.decode(yaml.encode(word)))
      assert.are.same({a = word}, yaml.decode("a: " .. yaml.flow(word)))
    end
  end)

  it("writes numbers that read back to the bit", function()
    for _, number in ipairs{0, -0.0, 1 / 3, 1e20, 1e-7, 5e-324, 2 ^ 53, -2 ^ 60, 1.7976931348623157e308, math.huge, -math.huge, 0.1} do
      local back = yaml.decode(yaml.encode{a = number}).a
      assert.are.equal(number, back)
      assert.are.equal(1 / number, 1 / back)
    end
    local nan = yaml.decode(yaml.encode(0 / 0))
    assert.is_true(nan ~= nan)
    assert.are.equal("a: 1.0e-05\n", yaml.encode{a = 1e-5})
    assert.are.equal("[9007199254740993]\n", yaml.encode{9007199254740993LL})
  end)

  it("writes random trees that read back the same", function()
    local random = math.random
    math.randomseed(7)
    local letters = {"a", "b", " ", "-", ":", "#", "'", '"', "\n", ",", "[", "{", "&", "*", "?", "|", ">", "%", "@", "é", "1", "."}
    local function word(most)
      local parts = {}
      for i = 1, random(0, most) do parts[i] = letters[random(#letters)] end
      return table.concat(parts)
    end
    local function tree(depth)
      local kind = random(depth > 4 and 4 or 7)
      if kind == 1 then return random() < 0.5 and random(100) or random() end
      if kind == 2 then return random() < 0.5 end
      if kind == 3 then return word(6) end
      if kind == 4 then return json.null end
      local value = kind == 5 and json.array{} or {}
      for i = 1, random(0, 4) do value[kind == 5 and i or word(3) .. i] = tree(depth + 1) end
      return value
    end
    for _ = 1, 200 do
      local value = tree(0)
      assert.are.equal(json.encode{value}, json.encode{yaml.decode(yaml.encode(value))})
    end
  end)

  it("marks empty lists, null, and objects with numbers for keys", function()
    assert.are.equal("a: []\nb: null\nc: {}\n", yaml.encode{a = json.array{}, b = json.null, c = {}})
    assert.are.equal('"1": x\n', yaml.encode(json.object{"x"}))
    assert.are.equal("{}\n", yaml.encode{})
  end)

  it("refuses what it cannot write, and names its place", function()
    raises(function() yaml.encode{a = {print}} end, "at .a[1]: a function cannot be encoded")
    raises(function() yaml.encode{a = {1, b = 2}} end, "at .a: the table has both elements and named fields")
    raises(function() yaml.encode{[1.5] = 2} end, "the key 1.5 is a number")
    raises(function() yaml.encode{a = "\255"} end, "at .a: the string is not UTF-8 at byte 1")
    local circle = {}
    circle.me = circle
    raises(function() yaml.encode(circle) end, "nested deeper than 512")
  end)

  it("is what ai.save writes to .yaml and .yml and ai.load reads, whose errors name the file", function()
    local aio = require "aijit.io"
    local path = os.tmpname()
    for _, ending in ipairs{".yaml", ".yml"} do
      aio.save({lr = 1e-3, words = {"no"}}, path .. ending)
      assert.are.same({lr = 1e-3, words = {"no"}}, aio.load(path .. ending))
      os.remove(path .. ending)
    end
    local file = assert(io.open(path .. ".yaml", "w"))
    file:write "a: 1\na: 2\n"
    file:close()
    raises(function() aio.load(path .. ".yaml") end, path .. '.yaml: yaml: line 2, column 1: the key "a"')
    os.remove(path .. ".yaml")
    os.remove(path)
  end)

  it("is read by Python's yaml as it was meant", function()
    local python = os.getenv "AIJIT_PYTHON" or "/usr/bin/python3"
    if os.execute(python .. " -c 'import yaml, json' 2>/dev/null") ~= 0 then return pending "Python has no yaml" end
    local path = os.tmpname()
    local value = {no = "no", rate = 1e-5, list = {1, "2", true}, text = "a: b\n#c", deep = {{x = {1.5}}, {y = "~"}}, date = "2024-01-01", big = 1e20}
    local out = assert(io.open(path, "w"))
    out:write(yaml.encode(value))
    out:close()
    local pipe = assert(io.popen(("%s -c 'import yaml, json; print(json.dumps(yaml.safe_load(open(\"%s\"))))'"):format(python, path)))
    local back = pipe:read "*a"
    pipe:close()
    os.remove(path)
    assert.are.same(value, json.decode(back))
  end)
end)
