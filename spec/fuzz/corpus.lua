-- Writes a few good inputs for every target, from which the fuzzer starts: luajit corpus.lua FOLDER

local here = debug.getinfo(1, "S").source:match "^@(.*)fuzz/corpus%.lua$"
package.path = here .. "?.lua;" .. package.path
local files = require "support.files"
local dir = assert(arg[1])

local function put(target, inputs)
  local folder = dir .. "/" .. target .. ".seeds"
  os.execute("mkdir -p '" .. folder .. "'")
  for name, data in pairs(inputs) do files.put(folder .. "/" .. name, data) end
end

local function safetensors(header, data) return files.safetensors(header .. (" "):rep(-#header % 8), data) end
put("safetensors", {
  empty = safetensors "{}",
  meta = safetensors '{"__metadata__":{"format":"pt"}}',
  two = safetensors('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"I8","shape":[3],"data_offsets":[8,11]}}', ("x"):rep(11)),
  kinds = safetensors('{"s":{"dtype":"I64","shape":[],"data_offsets":[0,8]},"z":{"dtype":"BF16","shape":[0,3],"data_offsets":[8,8]},'
    .. '"b":{"dtype":"BOOL","shape":[1,2],"data_offsets":[8,10]},"q":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[10,12]}}', ("\0"):rep(12)),
})

put("npy", {
  f4 = files.npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }", ("x"):rep(8)),
  big = files.npy("{'descr': '>i8', 'fortran_order': True, 'shape': (2, 3), }", ("x"):rep(48), 2),
  bool = files.npy("{'descr': '|b1', 'fortran_order': True, 'shape': (2,), }", "\0\1", 3),
  rank0 = files.npy("{\"descr\": '=f8', 'fortran_order': False, 'shape': ()}", ("x"):rep(8)),
})

local npy = files.npy("{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }", "abc")
put("npz", {
  one = files.zip{{"a.npy", npy}}, deflated = files.zip{{"a.npy", npy, method = 8}, {"d/"}, {"d/b.npy", npy}}, none = files.zip{},
  comment = files.zip{{"x.npy", npy}, comment = "hello"},
})

-- The first byte chooses whether the pickle is deflated, and the order of bytes.
local p = files.pickle
local floats, bools, longs = p.storage("FloatStorage", "0", 6), p.storage("BoolStorage", "1", 3), p.storage("LongStorage", "2", 2)
local ordered = p.global("collections", "OrderedDict")
put("pt", {
  dict = "\0" .. p.whole("}q\0(" .. p.text "a" .. p.tensor(floats, 0, {2, 3}, {3, 1}) .. "q\1" .. p.text "b" .. "h\1u"),
  swapped = "\3" .. p.whole(p.tuple(p.tensor(longs, 1, {1}, {1}), p.tensor(bools, 0, {3, 2}, {1, 0}), bools)),
  ordered = "\1" .. p.whole(ordered .. p.tuple("](" .. p.tuple(p.text "a", "K\1") .. "e") .. "R}" .. p.text "m" .. "Nsb"),
  parameter = "\0" .. p.whole(p.global("torch._utils", "_rebuild_parameter") .. p.tuple(p.tensor(floats, 5, {}, {}), "\136", ordered .. ")R") .. "R"),
  values = "\2" .. p.whole("](K\1M\1\2J\1\2\3\4\138\11abcdefghijkG\63\240\0\0\0\0\0\0N\136\137U\1xe"),
  modern = "\0\128\4\149\40\0\0\0\0\0\0\0\143\148(\140\1aK\1\144]\148(" .. p.text "torch" .. p.text "Size" .. "\147K\2\133\133Re\134.",
  kinds = "\0" .. p.whole(p.tuple(p.global("torch", "float32"),
    p.global("torch", "device") .. p.tuple(p.text "cpu") .. "R", p.global("builtins", "set") .. ")R")),
  old = "\0" .. p.whole(p.global("torch._utils", "_rebuild_tensor") .. p.tuple(floats, "K\1", "K\2\133", "K\1\133") .. "R"),
})

local idx = files.idx(8, {2, 3}, "abcdef")
put("idx", {u8 = idx, f8 = files.idx(14, {1}, ("x"):rep(8)), i2 = files.idx(11, {}, "xx"), zipped = files.gzip(idx), twice = files.gzip(idx):rep(2)})

-- The first byte chooses the mode of the target.
put("json", {
  all = '\1{"a":[1,2.5,-3e7,true,false,null,"\\u00e9\\n\\u0000"],"b":{}}', deep = "\0[[[]]]", text = '\0"x"', big = "\0009007199254740993",
  exact = "\0019007199254740993", real = "\0001e5", overflow = "\000[1,1e999]", huge = "\000[100000000000000000000]",
})
put("yaml", {
  all = '\1# c\na: &x [1, -2.5e3, true, ~, .inf, 0x1F, 0o17, "q\\n", \'s\']\nt: |\n  t\nb: {<<: *x, c: !!str 1}\n? k\n: >-\n  folded\n  text\n',
  list = "\0- a\n- - b\n  - c: d\n    e: f\n- *z\n", anchors = "\0a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: {<<: *c, *a: 1}\n",
  big = "\1[9007199254740993, 99999999999999999999, 1e999, .nan]", documents = "\0---\na\n...\n---\nb\n", tags = "\0%YAML 1.2\n---\n!!map {a: !x b}\n",
})
put("png", {
  grey = "\0" .. files.png(2, 2, 8, 0, "\0\10\20\0\30\40"), rgba = "\3" .. files.png(1, 1, 8, 6, "\0\255\0\0\128"),
  deep = "\6" .. files.png(1, 1, 16, 2, "\0\1\2\3\4\5\6"), bits = "\1" .. files.png(5, 1, 1, 0, "\0\168"),
  palette = "\2" .. files.png(2, 1, 8, 3, "\0\1\0", files.png_chunk("PLTE", "\1\2\3\4\5\6")),
})

put("csv", {
  plain = "\4\0a,b,c\n1,2.5,x\n-2,NA,\"y \"\"z\"\"\n\"\n", tabs = "\2\0001\ttrue\t1e300\r\n2\tfalse\t-.5E-7\r\n", given = "\12\43a,b\n1.5,2\n3,4",
  mark = "\4\0\239\187\191a\n\n9223372036854775807\n", words = "\5\0n;w\ninf;nan\n0.1000000000000000055511151231257827;123456789012345678901234567890\n",
})

local function jpeg(name) return files.get(here .. "vectors/jpeg/" .. name .. ".jpg") end
put("jpeg", {
  grey = "\0" .. jpeg "grey", colour = "\2" .. jpeg "colour", small = "\86" .. jpeg "colour", steps = "\1" .. jpeg "progressive", inks = "\0" .. jpeg "cmyk",
})

put("hash", {short = "\3abc", long = ("0123456789"):rep(40)})

local pax = files.tar_entry("x", "12 path=abc\n9 size=2\n", {type = "x"}) .. files.tar_entry("short", "xy")
put("tar", {
  two = files.tar {{"a", "hello"}, {"d/", "", type = "5"}, {"d/b", ""}}, pax = pax, base256 = files.tar {{"a", "abc", size = "\128" .. ("\0"):rep(10) .. "\3"}},
  long = files.tar_entry("L", ("n"):rep(120) .. "\0", {type = "L"}) .. files.tar_entry("short", "x"), prefix = files.tar {{"f", "1", prefix = "p/q"}},
})
