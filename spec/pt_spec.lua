local ai = require "aijit"
local aio = require "aijit.io"
local json = require "aijit.json"
require "support.like"
local files = require "support.files"
local p = files.pickle

local folder = (debug.getinfo(1, "S").source:match "^@(.*)pt_spec%.lua$" or "spec/") .. "vectors/pt/"
local function load(name, opts) return aio.load(folder .. name .. ".pt", opts) end
local function made(pickle, storages, more) return aio.decode(files.pt(pickle, storages, more), {format = "pt"}) end
local function list(t) return t:to("f64"):tolist() end

local floats = ("\0\0\128\63"):rep(6)       -- six ones
local storage = p.storage("FloatStorage", "0", 6)

describe("pt, as PyTorch wrote it,", function()
  it("is a state_dict with its keys in order", function()
    local t, keys = load "state"
    assert.are.same({"0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"}, {unpack(keys)})
    assert.are.same({{0, 1, 2}, {3, 4, 5}}, list(t["0.weight"]))
    assert.are.same({10, 11}, list(t["0.bias"]))
    assert.are.equal("i64", t["1.num_batches_tracked"].dtype)
    assert.are.equal(0, t["1.num_batches_tracked"]:item())
    assert.is_nil(t._metadata)
  end)

  it("is a checkpoint of model, optimizer and settings", function()
    local t, keys = load "checkpoint"
    assert.are.same({"epoch", "model", "optimizer", "best", "name", "done", "note"}, {unpack(keys)})
    assert.are.same({7, 0.25, "täst", false}, {t.epoch, t.best, t.name, t.done})
    assert.is_nil(t.note)
    assert.are.equal("0.weight", keys[t.model][1])
    local group = t.optimizer.param_groups[1]
    assert.are.same({0.5, {0.9, 0.999}, {0, 1, 2, 3}}, {group.lr, group.betas, group.params})
    assert.are.same({2, 3}, t.optimizer.state[0].exp_avg.shape)
    assert.are.equal(1, t.optimizer.state[3].step:item())
    assert.are.same({"step", "exp_avg", "exp_avg_sq"}, keys[t.optimizer.state[0]])
  end)

  it("has every dtype", function()
    local t, keys = load "kinds"
    local ours = {float64 = "f64", float32 = "f32", float16 = "f16", bfloat16 = "bf16", int64 = "i64", int32 = "i32", int16 = "i16", int8 = "i8", uint8 = "u8"}
    assert.are.equal(10, #keys)
    for name, dtype in pairs(ours) do
      assert.are.equal(dtype, t[name].dtype)
      assert.are.same({{0, 1, 2}, {3, 4, 5}}, list(t[name]))
    end
    assert.are.same({1, 0, 1}, list(t.bool))
    assert.are.equal("bool", t.bool.dtype)
  end)

  it("has views of one storage, which stay so", function()
    local t = load "views"
    local base = ai.arange(0, 23):to("f32"):reshape(4, 6)
    assert.is_true(t.base:equal(base):item())
    assert.is_true(t.turned:equal(base:t()):item())
    assert.are.same({{8, 9, 10}, {14, 15, 16}}, list(t.part))
    assert.are.same({{0, 3}, {12, 15}}, list(t.step))
    assert.are.same({18, 19, 20, 21, 22, 23}, list(t.row))
    assert.are.equal(15, t.one:item())
    assert.are.same({{1, 1}, {1, 1}, {1, 1}}, list(t.wide))
    assert.are.same({0, 5}, t.none.shape)
    t.base:fill_(7)
    assert.are.same({7, 7, 7, 7, 7, 7}, list(t.row))
    assert.are.equal(7, t.again[{2, 2}]:item())
    assert.are.equal(15, load "views".one:item())      -- the file is as it was
  end)

  it("has lists, tuples, sets, numbers of every length; also in protocol 4", function()
    for _, name in ipairs{"nested", "nested4"} do
      local t, keys = load(name)
      assert.are.same({1, {2, {3}}, json.null, "x"}, t.list)
      assert.are.equal(t.list, t.shared)
      assert.are.same({true, 1.5}, t.tuple)
      assert.are.same({4}, t.set)
      assert.are.same({[1] = "one", [2.5] = "half", [""] = "empty"}, t.keys)
      assert.are.same({1, 2.5, ""}, keys[t.keys])
      assert.are.same({2, 3}, t.size)
      assert.are.same({"bf16", "cpu"}, {t.dtype, t.device})
      assert.are.equal("4611686018427387905LL", tostring(t.big))
      assert.are.equal("-4611686018427387904LL", tostring(t.small))
      assert.are.same({2 ^ 80, -5, 70000, -math.huge}, {t.huge, t.minus, t.wide, t.inf})
      assert.is_true(t.nan ~= t.nan)
    end
  end)

  it("may be a tensor, a parameter, a number or a storage", function()
    assert.are.same({0, 1, 2}, list((load "tensor")))
    assert.are.equal(42, (load "number"))
    assert.are.same({0, 1}, list((load "parameter")))
    assert.are.same({0, 1, 2}, list(load("storage").s))
  end)

  it("is told by its content, and read in part, or as a copy", function()
    local bytes = files.get(folder .. "state.pt")
    assert.are.same({10, 11}, list(aio.decode(bytes)["0.bias"]))
    local t = load("state", {only = "bias$", mmap = false})
    assert.is_nil(t["0.weight"])
    assert.are.same({10, 11}, list(t["0.bias"]))
    assert.are.same({7, 7}, list(load("checkpoint", {only = "^model%.1%.bias$"}).model["1.bias"]:mul(0):add(7)))
  end)

  it("is refused when it would have to run code, or is older, or has complex numbers", function()
    assert.has_error_like(function() load "module" end, "pt: .*module%.pt: asks for torch%.nn%.modules%.container%.Sequential, .*refused")
    assert.has_error_like(function() load "old" end, "pt: .*old%.pt: is a bare pickle, as PyTorch wrote before 1%.6")
    assert.has_error_like(function() load "complex" end, "pt: .*complex%.pt: a tensor of complex numbers")
    assert.are.same({1}, list(load("complex", {only = "x"}).x))
  end)

  local python = files.python "torch"
  local oracle = python and it or pending
  oracle("agrees with PyTorch on random views", function()
    local place = files.folder()
    local script = files.put(place .. "/o.py", [==[
import sys, random, torch
random.seed(5)
views, plain = {}, {}
for i in range(200):
    x = torch.arange(120, dtype=random.choice([torch.float32, torch.int64, torch.uint8])).reshape(2, 3, 4, 5)
    for _ in range(random.randint(0, 4)):
        d = random.randrange(x.dim()) if x.dim() else 0
        k = random.randrange(4)
        if k == 0 and x.dim() > 1: x = x.transpose(d, random.randrange(x.dim()))
        if k == 1 and x.dim() and x.shape[d] > 1: x = x.narrow(d, 1, x.shape[d] - 1)
        if k == 2 and x.dim() and x.shape[d] > 1: x = x.select(d, random.randrange(x.shape[d]))
        if k == 3: x = x.unsqueeze(0)
    views["v%d" % i] = x
    plain["v%d" % i] = x.contiguous().clone()
torch.save(views, sys.argv[1] + "/views.pt")
torch.save(plain, sys.argv[1] + "/plain.pt", pickle_protocol=4)
]==])
    local output, ok = files.run(("%s %s %s"):format(python, script, place))
    assert.are.same({"", true}, {output, ok})
    local views, plain = aio.load(place .. "/views.pt"), aio.load(place .. "/plain.pt")
    for i = 0, 199 do assert.is_true(views["v" .. i]:equal(plain["v" .. i]):item()) end
    files.remove(place)
  end)
end)

describe("pt, made by hand,", function()
  it("is read when it is honest", function()
    local t = made(p.whole(p.tensor(storage, 1, {2, 2}, {2, 1})), {["0"] = floats})
    assert.are.same({{1, 1}, {1, 1}}, list(t))
    assert.are.same({}, (made(p.whole "}")))
    assert.are.equal("x", (made(p.whole "U\1x")))
    assert.are.same({a = {1}}, (made(p.whole(p.global("collections", "OrderedDict") .. p.tuple("](" .. p.tuple(p.text "a", "](K\1e") .. "e") .. "R"))))
  end)

  it("turns big-endian storages round", function()
    local t = made(p.whole(p.tensor(storage, 0, {6}, {1})), {["0"] = ("\63\128\0\0"):rep(6)}, {byteorder = "big"})
    assert.are.same({1, 1, 1, 1, 1, 1}, list(t))
    assert.are.same({1}, list((made(p.whole(p.tensor(p.storage("FloatStorage", "0", 1), 0, {1}, {1})), {["0"] = "\0\0\128\63"}, {byteorder = "little"}))))
  end)

  describe("is refused, saying why:", function()
    local function whole(offset, sizes, strides) return p.whole(p.tensor(storage, offset, sizes, strides)) end
    local function nested(n) return p.whole(("]"):rep(n) .. ("a"):rep(n - 1)) end
    local rebuild = p.global("torch._utils", "_rebuild_tensor_v2")
    for _, case in ipairs{
      {"a call of the system", p.whole(p.global("os", "system") .. p.tuple(p.text "true") .. "R"), "asks for os%.system, which is not plain data: refused"},
      {"eval", p.whole(p.global("builtins", "eval") .. p.tuple(p.text "1") .. "R"), "asks for builtins%.eval"},
      {"getattr", p.whole(p.global("builtins", "getattr")), "asks for builtins%.getattr"},
      {"a global that hides in another", p.whole(p.global("torch", "FloatStorage.__init__")), "asks for torch%.FloatStorage%.__init__"},
      {"a global of the stack", p.whole(p.text "posix" .. p.text "system" .. "\147"), "asks for posix%.system"},
      {"torch.load within torch.load", p.whole(p.global("torch.storage", "_load_from_bytes")), "asks for torch%.storage%._load_from_bytes"},
      {"INST", p.whole "(ios\nsystem\n", "opcode 0x69 is none that tensors need"},
      {"OBJ", p.whole "(K\1o", "opcode 0x6f is none"},
      {"EXT1", p.whole "\130\1", "opcode 0x82 is none"},
      {"GET of text", p.whole "]p0\n", "opcode 0x70 is none"},
      {"DUP", p.whole "]2", "opcode 0x32 is none"},
      {"POP", p.whole "]]0", "opcode 0x30 is none"},
      {"a buffer out of band", p.whole "\151", "opcode 0x97 is none"},
      {"nothing", "", "is cut short"},
      {"a pickle without end", "\128\2]", "is cut short"},
      {"a text cut short", "\128\2X\255\0\0\0ab", "is cut short"},
      {"a text of 4 GB", "\128\2X\255\255\255\255ab", "a text is too long"},
      {"a number cut short", "\128\2G\0\0", "is cut short"},
      {"a long number cut short", "\128\2\138\255\0", "is cut short"},
      {"a frame beyond the end", "\128\4\149\255\0\0\0\0\0\0\0N.", "is cut short"},
      {"a global cut short", "\128\2ctorch\nFloat", "is cut short"},
      {"a text that is not UTF-8", p.whole(p.text "\255"), "a text is not UTF%-8"},
      {"protocol 1", "\128\1N.", "a protocol other than 2 to 5"},
      {"protocol 9", "\128\9N.", "a protocol other than 2 to 5"},
      {"nothing on the stack", p.whole "", "empty stack"},
      {"two values", p.whole "NN", "values left over"},
      {"a mark left over", p.whole "(N", "empty stack|left over"},
      {"bytes after the end", p.whole "N" .. "N", "goes on after its end"},
      {"a tuple of too few", p.whole "N\134", "empty stack"},
      {"a tuple without a mark", p.whole "Nt", "a mark is missing"},
      {"items of a dictionary through a mark", p.whole "}(s", "empty stack"},
      {"an append to a number", p.whole "K\1K\2a", "appends to what is no list"},
      {"appends to nothing", p.whole "(K\1e", "empty stack"},
      {"appends to a tuple", p.whole ")(K\1e", "appends to what is no list"},
      {"additions to a list", p.whole "](K\1\144", "appends to what is no list"},
      {"a key of a list", p.whole "]K\1K\2s", "sets a key of what is no dictionary"},
      {"keys of a list", p.whole "](K\1K\2u", "sets keys of what is no dictionary"},
      {"a key without a value", p.whole "}(K\1u", "a key without a value"},
      {"a list as a key", p.whole "}]K\1s", "a key that is no text or number"},
      {"a tuple as a key", p.whole "})K\1s", "neither a text nor a number"},
      {"None as a key", p.whole "}NK\1s", "neither a text nor a number"},
      {"NaN as a key", p.whole "}G\127\248\0\0\0\0\0\0K\1s", "neither a text nor a number"},
      {"a tensor as a key", p.whole("}" .. p.tensor(storage, 0, {1}, {1}) .. "K\1s"), "a key that is no text or number"},
      {"a memo that is empty", p.whole "h\0", "what the memo does not hold"},
      {"a memo with a hole", p.whole "Nq\2h\1", "what the memo does not hold"},
      {"a place in the memo past belief", p.whole "Nr\255\255\255\127", "a place in the memo is too large"},
      {"a place beyond the pickle's size", p.whole "Nr\255\0\0\0", "a place in the memo is too large"},
      {"attributes of a number", p.whole "K\1}b", "gives attributes to what is no dictionary"},
      {"a call of a number", p.whole "K\1)R", "calls what is no constructor"},
      {"a call with a list", p.whole(p.global("torch", "Size") .. "]R"), "calls with what is no tuple"},
      {"a call of a class of storages", p.whole(p.global("torch", "FloatStorage") .. ")R"), "a class of storages is called"},
      {"a class as a value", p.whole(p.global("collections", "OrderedDict")), "holds a class"},
      {"a list that contains itself", p.whole "]q\0h\0a", "contains itself"},
      {"a dictionary that contains itself", p.whole("}q\0" .. p.text "a" .. "h\0s"), "contains itself"},
      {"lists 200 deep", nested(200), "nested deeper than 100"},
      {"lists 100,000 deep", nested(100000), "nested deeper than 100"},
      {"a size of no tuple", p.whole(p.global("torch", "Size") .. p.tuple "K\1" .. "R"), "a torch%.Size of what is no tuple"},
      {"a device without a name", p.whole(p.global("torch", "device") .. ")R"), "a torch%.device without a name"},
      {"an OrderedDict of numbers", p.whole(p.global("collections", "OrderedDict") .. p.tuple "](K\1e" .. "R"), "what are no pairs"},
      {"an OrderedDict of a number", p.whole(p.global("collections", "OrderedDict") .. p.tuple "K\1" .. "R"), "what is no list"},
      {"a set of a number", p.whole(p.global("builtins", "set") .. p.tuple "K\1" .. "R"), "a set of what is no list"},
      {"a parameter of a number",
        p.whole(p.global("torch._utils", "_rebuild_parameter") .. p.tuple("K\1", "\136", "N") .. "R"), "a parameter without a tensor"},
      {"a tensor of nothing", p.whole(rebuild .. ")R"), "a wrong number of arguments"},
      {"a tensor without a storage", p.whole(rebuild .. p.tuple("K\1", "K\0", ")", ")", "\137", "N") .. "R"), "a tensor without a storage"},
      {"an offset that is no number", p.whole(rebuild .. p.tuple(storage, "N", ")", ")", "\137", "N") .. "R"), "the offset of a tensor"},
      {"a negative offset", p.whole(rebuild .. p.tuple(storage, "J\255\255\255\255", ")", ")", "\137", "N") .. "R"), "the offset of a tensor"},
      {"sizes that are no list", p.whole(rebuild .. p.tuple(storage, "K\0", "K\1", ")", "\137", "N") .. "R"), "the sizes of a tensor are no list"},
      {"a negative size",
        p.whole(rebuild .. p.tuple(storage, "K\0", "J\255\255\255\255\133", "K\1\133", "\137", "N") .. "R"), "the sizes of a tensor are no list"},
      {"a size of 1.5", p.whole(rebuild .. p.tuple(storage, "K\0", "G\63\248\0\0\0\0\0\0\133", "K\1\133", "\137", "N") .. "R"), "the sizes of a tensor"},
      {"a negative stride", p.whole(rebuild .. p.tuple(storage, "K\5", "K\2\133", "J\255\255\255\255\133", "\137", "N") .. "R"), "the strides of a tensor"},
      {"fewer strides than sizes", whole(0, {1, 1}, {1}), "another number of strides"},
      {"nine dimensions", whole(0, {1, 1, 1, 1, 1, 1, 1, 1, 1}, {1, 1, 1, 1, 1, 1, 1, 1, 1}), "9 dimensions: at most 8"},
      {"more elements than the storage has", whole(0, {7}, {1}), "reaches to element 6 of a storage that has 6"},
      {"an offset at the end", whole(6, {1}, {1}), "reaches to element 6"},
      {"an offset beyond the end of an empty tensor", whole(7, {0}, {1}), "reaches to element 7"},
      {"a stride beyond the end", whole(0, {2, 2}, {1, 5}), "reaches to element 6"},
      {"an offset of 2^62", whole(2 ^ 62, {2}, {1}), "reaches to element"},
      {"sizes that overflow", whole(0, {2 ^ 32, 2 ^ 32}, {0, 0}), "multiply to more than 2%^63"},
      {"strides that overflow", whole(0, {2 ^ 33}, {2 ^ 60}), "the strides of a tensor lead past"},
      {"strides that wrap round to 0", whole(0, {5}, {2 ^ 62}), "the strides of a tensor lead past"},
      {"a storage that is not there", p.whole(p.tensor(p.storage("FloatStorage", "1", 6), 0, {1}, {1})), 'storage "1" is not in the file'},
      {"a storage that leads elsewhere", p.whole(p.storage("FloatStorage", "../data.pkl", 6)), "is not in the file"},
      {"a storage with more elements than bytes", p.whole(p.storage("FloatStorage", "0", 7)), "should hold 7 elements of 4 bytes, and has 24"},
      {"a storage of another type", p.whole(p.storage("DoubleStorage", "0", 6)), "should hold 6 elements of 8 bytes"},
      {"a storage that overflows", p.whole(p.storage("DoubleStorage", "0", 2 ^ 61)), "should hold"},
      {"a storage of an unknown type", p.whole(p.storage("QUInt8Storage", "0", 24)), "asks for torch%.QUInt8Storage"},
      {"a storage that is no tuple", p.whole "NQ", "a storage is not described as one"},
      {"a storage that is something else",
        p.whole(p.tuple(p.text "module", p.global("torch", "FloatStorage"), p.text "0", p.text "cpu", p.int(6)) .. "Q"), "not described as one"},
      {"a storage without a class", p.whole(p.tuple(p.text "storage", "N", p.text "0", p.text "cpu", p.int(6)) .. "Q"), "not described as one"},
      {"a bool that is 63", p.whole(p.tensor(p.storage("BoolStorage", "0", 24), 0, {24}, {1})), "of a bool tensor is 128, not 0 or 1"},
    } do
      it(case[1], function()
        local ok, message = pcall(made, case[2], {["0"] = floats})
        assert.is_false(ok)
        assert.is_truthy(message:find "pt: ")
        local found = false
        for why in (case[3] .. "|"):gmatch "(.-)|" do found = found or message:find(why) ~= nil end
        assert.is_true(found, message)
      end)
    end

    for _, case in ipairs{
      {"a zip without a pickle", files.zip{{"a/data.txt", "x"}}, "a zip without data%.pkl"},
      {"a pickle too deep in folders", files.zip{{"a/b/data.pkl", "N."}}, "a zip without data%.pkl"},
      {"two pickles", files.zip{{"a/data.pkl", "N."}, {"b/data.pkl", "N."}}, "has two pickles"},
      {"a byte order that there is not", files.pt("\128\2N.", {}, {byteorder = "middle"}), "byteorder is neither"},
      {"a damaged pickle", files.zip{{"a/data.pkl", "\128\2N.", crc = 1}}, "it is damaged"},
      {"a damaged storage", files.zip{{"a/data.pkl", p.whole(p.tensor(storage, 0, {1}, {1}))}, {"a/data/0", floats, crc = 7}}, "it is damaged"},
      {"no zip", "PK\3\4" .. ("x"):rep(100), "not a zip archive"},
    } do
      it(case[1], function() assert.has_error_like(function() aio.decode(case[2], {format = "pt"}) end, "pt: %(string%).*" .. case[3]) end)
    end
  end)
end)
