local ai = require "aijit"
local aio = require "aijit.io"
require "support.like"
local files = require "support.files"

local function read(text, opts)
  opts = setmetatable({format = "csv"}, {__index = opts})
  return aio.decode(text, opts)
end
local function list(column) return type(column) == "table" and column or column:to("f64"):tolist() end
local function write(value, opts) return aio.encode(value, setmetatable({format = "csv"}, {__index = opts})) end

describe("csv", function()
  it("makes tensors of numbers and lists of texts, by the header's names and in order", function()
    local t, names = read "id,price,name,ok\n1,2.5,apple,true\n2,-3e2,pear,false\n"
    assert.are.same({"id", "price", "name", "ok"}, names)
    assert.are.same({"i64", "f64", "bool"}, {t.id.dtype, t.price.dtype, t.ok.dtype})
    assert.are.same({1, 2}, list(t.id))
    assert.are.same({2.5, -300}, list(t.price))
    assert.are.same({"apple", "pear"}, t.name)
    assert.are.same({1, 0}, list(t.ok))
  end)

  it("numbers columns that have no header", function()
    local t, names = read("1,x\n2,y\n", {header = false})
    assert.are.same({1, 2}, names)
    assert.are.same({{1, 2}, {"x", "y"}}, {list(t[1]), t[2]})
    t, names = read("1,x\n", {header = false, names = {"n", "s"}})
    assert.are.same({"n", "s"}, names)
    assert.are.same({1}, list(t.n))
    assert.are.same({7}, list(read("a,a\n7,8\n", {names = {"a", "b"}}).a))
  end)

  it("reads quotes as RFC 4180 has them", function()
    local t = read '"a","b ""c"""\n"x,y","line\nbreak"\r\n"""q""",""\n'
    assert.are.same({"x,y", '"q"'}, t.a)
    assert.are.same({"line\nbreak", ""}, t['b "c"'])
    assert.are.same({12, 7}, list(read('n\n"12"\n7\n').n))
  end)

  it("takes every line end, a missing last one, blank lines and a byte order mark", function()
    for _, text in ipairs{"a,b\n1,2\n3,4", "a,b\r\n1,2\r\n3,4\r\n", "a,b\r1,2\r3,4\r", "\239\187\191a,b\n1,2\n3,4\n", "\n\na,b\n\n1,2\n\n\n3,4\n\n"} do
      local t, names = read(text)
      assert.are.same({{"a", "b"}, {1, 3}, {2, 4}}, {names, list(t.a), list(t.b)})
    end
    assert.are.same({1, 3}, list(read("a\n1\n\n3\n").a))
    assert.are.same({"", "x"}, read('a\n""\nx\n').a)
  end)

  it("gives NaN where a number is missing, but leaves texts alone", function()
    local t = read "a,b,c,d\n1,,x,true\n,NA,NA,\n"
    assert.are.same({"f64", "f64"}, {t.a.dtype, t.b.dtype})
    assert.are.equal("1", tostring(t.a[1]:item()))
    assert.is_true(t.a[2]:isnan():item())
    assert.is_true(t.b:isnan():all():item())
    assert.are.same({"x", "NA"}, t.c)
    assert.are.same({"true", ""}, t.d)
    assert.is_true(read("a\n?\n5\n", {missing = {"?"}}).a[1]:isnan():item())
    assert.are.same({"NA", "5"}, read("a\nNA\n5\n", {missing = {}}).a)
  end)

  it("keeps whole numbers exact, up to 64 bits, and reals to the last bit", function()
    assert.are.equal("9223372036854775807", tostring(read("a\n9223372036854775807\n-9223372036854775808\n").a[1]:item()):match "%d+")
    assert.are.equal("f64", read("a\n9223372036854775808\n").a.dtype)
    for _, v in ipairs{"0.1", "1e22", "1e23", "123456789.123456789", "2.2250738585072014e-308", "5e-324", "1.7976931348623157e308", "0.30000000000000004",
      "9007199254740993", "123456789012345678901234567890", "1e400", "1e-400", "000000000000000000000000000001.5", ".5", "5.", "+7.25", "-0.0",
      "0.000000000000000000000000000000000000012345678901234567890123"} do
      assert.are.equal(tonumber(v), read("a\n" .. v .. "\n0.5\n").a[1]:item(), v)
    end
    assert.are.same({math.huge, -math.huge}, list(read("a\ninf\n-Infinity\n").a))
    assert.are.same({1, 2}, list(read("a\n 1\n2 \n").a))
  end)

  it("does not take other texts for numbers", function()
    for _, v in ipairs{"1,5", "1 2", "0x10", "1e", "e5", ".", "-", "+", "1.2.3", "--1", "1e5.5", "infinit", "nano", "1_000", "٣", "truE"} do
      assert.are.same({v}, read(('a\n"%s"\n'):format(v)).a, v)
    end
  end)

  it("has the types that it is told", function()
    local t = read("a,b,c,d\n1,2,3,1\n4,,5,false\n", {types = {a = "f32", b = "string", c = "u8", [4] = "bool"}})
    assert.are.same({"f32", "u8", "bool"}, {t.a.dtype, t.c.dtype, t.d.dtype})
    assert.are.same({"2", ""}, t.b)
    assert.are.same({1, 0}, list(t.d))
  end)

  it("splits at other delimiters, and at tabs in a .tsv", function()
    assert.are.same({2}, list(read("a;b\n1;2\n", {delimiter = ";"}).b))
    local folder = files.folder()
    aio.save({a = {1}, b = {"x\ty"}}, folder .. "/x.tsv")
    assert.are.equal('a\tb\n1\t"x\ty"\n', files.get(folder .. "/x.tsv"))
    local t, names = aio.load(folder .. "/x.tsv")
    assert.are.same({{"a", "b"}, {1}, {"x\ty"}}, {names, list(t.a), t.b})
    aio.save({a = ai.tensor{1.5, 2}}, folder .. "/x.csv")
    assert.are.same({1.5, 2}, list(ai.load(folder .. "/x.csv").a))
    files.remove(folder)
  end)

  it("may have no rows, or fields of nothing", function()
    local t, names = read "a,b\n"
    assert.are.same({{"a", "b"}, {}, {}}, {names, t.a, t.b})
    assert.are.same({"", "b"}, select(2, read ",b\n1,2\n"))
    assert.are.equal(0, read("a\n", {types = {a = "f32"}}).a:numel())
  end)

  it("writes tensors of any type and stride, and lists", function()
    local m = ai.tensor{{1, 2}, {0.5, 1e300}, {1 / 3, 3}}
    local text = write{a = m[{{}, 1}]:to "f64", b = ai.tensor({-1, 0, 127}, {dtype = "i8"}), c = {"x", "", '"'}, d = {true, false, true}, e = {1, 2.5, 3}}
    assert.are.equal('a,b,c,d,e\n1.0,-1,x,true,1.0\n0.5,0,,false,2.5\n' .. ("%.17g"):format(m[{3, 1}]:item()) .. ',127,"""",true,3.0\n', text)
    assert.are.equal("b,a\n2,1\n", write({a = {1}, b = {2}}, {columns = {"b", "a"}}))
    assert.are.equal("1;2\n", write({{1}, {2}}, {header = false, delimiter = ";"}))
    assert.are.equal('a\n""\n', write{a = {""}})
    assert.are.equal("a\nnan\ninf\n-inf\n", write{a = ai.tensor{0 / 0, 1 / 0, -1 / 0}})
    assert.are.equal("a\n0.1\n16777216.0\n1e-20\n", write{a = ai.tensor{0.1, 16777216, 1e-20}})
    assert.are.equal("a\n0.5\n", write{a = ai.tensor({0.5}, {dtype = "bf16"})})
  end)

  it("reads back what it wrote, bit for bit", function()
    ai.manual_seed(3)
    local t = {f = ai.randn(500), d = ai.randn(500, {dtype = "f64"}):mul(1e100), i = ai.randint(-2 ^ 62, 2 ^ 62, {500}, {dtype = "i64"}),
      u = ai.randint(0, 256, {500}, {dtype = "u8"}), s = {}}
    for i = 1, 500 do t.s[i] = files.noise(math.random(0, 6)):gsub("[%z\128-\255]", ",") end
    local back = read(write(t), {types = {f = "f32", u = "u8", s = "string"}})
    for _, name in ipairs{"f", "d", "i", "u"} do assert.is_true(t[name]:equal(back[name]):item(), name) end
    assert.are.same(t.s, back.s)
  end)

  describe("refuses, saying where and why:", function()
    for _, case in ipairs{
      {"nothing", "", "is empty"},
      {"blank lines", "\n\n\r\n", "is empty"},
      {"a byte order mark alone", "\239\187\191", "is empty"},
      {"too few fields", "a,b\n1,2\n3\n", "line 3: 1 fields, where the header has 2"},
      {"too many fields", "a,b\n1,2,3\n", "line 2: 3 fields, where the header has 2"},
      {"a delimiter at the end", "a,b\n1,2,\n", "line 2: 3 fields"},
      {"uneven lines without a header", "1,2\n1\n", "line 2: 1 fields, where the first line has 2", {header = false}},
      {"uneven lines after a field of three lines", 'a,b\n"x\ny\nz",1\n2\n', "line 5: 1 fields"},
      {"a quote that is not closed", 'a\n1\n"two\nthree\n', "line 3: a quoted field has no closing quote"},
      {"a header that is not closed", '"a\n1\n', "line 1: a quoted field has no closing quote"},
      {"text after a closing quote", 'a,b\n1,"x"y\n', 'line 2, column 2 %("b"%): "x" is followed by text after its closing quote'},
      {"a space after a closing quote", 'a,b\n"x" ,1\n', "followed by text after its closing quote"},
      {"a quote within a field", 'a,b\nx"y,1\n', 'line 2, column 1 %("a"%): "x" has a quote in it'},
      {"a quote after a space", 'a,b\n1, "x"\n', "has a quote in it"},
      {"two columns of one name", "a,b,a\n1,2,3\n", 'columns 1 and 3 are both named "a": the option names'},
      {"a text where a number is wanted", "a,b\n1,2\n3,x\n", 'line 3, column 2 %("b"%): "x" is no number', {types = {b = "f32"}}},
      {"a real where a whole number is wanted", "a\n1.5\n", '"1.5" is no whole number', {types = {a = "i64"}}},
      {"a number that is missing", "a,b\n,1\n", 'line 2, column 1 %("a"%): "" is missing', {types = {a = "i32"}}},
      {"a number out of range", "a\n300\n", '"300" is out of the range', {types = {a = "u8"}}},
      {"a negative number of no sign", "a\n-1\n", "out of the range", {types = {a = "u8"}}},
      {"a number that is too small", "a\n-129\n", "out of the range", {types = {a = "i8"}}},
      {"a whole number of 30 digits", "a\n123456789012345678901234567890\n", "is no whole number", {types = {a = "i64"}}},
      {"a bool that is 2", "a\n2\n", "out of the range", {types = {a = "bool"}}},
      {"a bool that is yes", "a\nyes\n", "is no whole number", {types = {a = "bool"}}},
      {"a zero byte in a text", "a\nx\0y\n", 'line 2, column 1 %("a"%): .* has a zero byte'},
      {"a zero byte in the header", "a\0,b\n1,2\n", "line 1, column 1: .* has a zero byte"},
      {"text that is not UTF-8", "a,b\n1,caf\233\n", 'line 2, column 2 %("b"%): .* is not UTF%-8: iconv'},
      {"a header that is not UTF-8", "\233\n1\n", "line 1, column 1: .* is not UTF%-8"},
      {"UTF-16", "\255\254a\0,\0b\0", "is UTF%-16: iconv"},
      {"UTF-16, the other way", "\254\255\0a\0,\0b", "is UTF%-16: iconv"},
      {"too many columns", (","):rep(70000), "line 1: more than 65536 columns"},
    } do
      it(case[1], function() assert.has_error_like(function() read(case[2], case[4]) end, "csv: .*" .. case[3]) end)
    end

    it("options that make no sense", function()
      local function fails(opts, why) assert.has_error_like(function() read("a,b\n1,2\n", opts) end, "csv: " .. why) end
      fails({delimiter = ""}, "the delimiter must be one character")
      fails({delimiter = ", "}, "the delimiter must be one character")
      fails({delimiter = '"'}, ".*the delimiter can be any byte but")
      fails({delimiter = "\n"}, ".*the delimiter can be any byte but")
      fails({names = {"a"}}, "names must be a list of 2 names")
      fails({types = {c = "f32"}}, 'types names a column "c" that there is not')
      fails({types = {[3] = "f32"}}, 'types names a column "3" that there is not')
      fails({types = {a = "bf16"}}, 'column a: "bf16" is no type of a column')
      fails({missing = "NA"}, "missing must be a list")
      fails({missing = {1}}, "missing must be a list")
    end)

    it("to write what is no table", function()
      local function fails(value, why, opts) assert.has_error_like(function() write(value, opts) end, "csv: " .. why) end
      fails(7, "needs a table of columns, got a number")
      fails({}, "there is no column to write")
      fails({a = {1}, b = {1, 2}}, "column b has 2 entries, those before it 1")
      fails({a = 7}, "column a is a number")
      fails({a = {{}}}, "column a: a table cannot be written")
      fails({a = {1, "x"}}, "column a: entry 2 is a string")
      fails({a = ai.zeros(2, 2)}, "column a: needs a tensor of one dimension, got 2")
      fails({a = {1}}, 'there is no column "b"', {columns = {"b"}})
      fails({a = {1}}, "the delimiter must be one character", {delimiter = "::"})
    end)
  end)

  local python = files.python "csv"
  local oracle = python and it or pending
  oracle("agrees with Python's module, both ways", function()
    local folder = files.folder()
    local script = files.put(folder .. "/o.py", [==[
import csv, random, sys
random.seed(4)
pick = lambda: "".join(random.choice('ab,"\n ;é\'x') for _ in range(random.randrange(6)))
rows = [["%d" % random.randrange(-10**18, 10**18), repr(random.uniform(-1, 1) * 10.0 ** random.randrange(-300, 300)), "x" + pick(), "y" + pick()]
        for _ in range(2000)]
with open(sys.argv[1] + "/in.csv", "w", newline="", encoding="utf8") as f: csv.writer(f, quoting=random.choice([0, 1])).writerows([["i", "r", "s", "t"]] + rows)
]==])
    local check = files.put(folder .. "/c.py", [==[
import csv, sys
read = lambda n: list(csv.reader(open(sys.argv[1] + n, newline="", encoding="utf8")))
a, b = read("/in.csv"), read("/out.csv")
assert a[0] == b[0] and len(a) == len(b)
for x, y in zip(a[1:], b[1:]): assert int(x[0]) == int(y[0]) and float(x[1]) == float(y[1]) and x[2:] == y[2:], (x, y)
]==])
    assert.are.same({"", true}, {files.run(("%s %s %s"):format(python, script, folder))})
    local t, names = aio.load(folder .. "/in.csv")
    aio.save(t, folder .. "/out.csv", {columns = names})
    assert.are.same({"", true}, {files.run(("%s %s %s"):format(python, check, folder))})
    files.remove(folder)
  end)
end)
