local ai = require "aijit"
local class = require "aijit.class"
local json = require "aijit.json"
local log = require "aijit.log"
local media = require "aijit.log.media"
local process = require "support.process"

local python = os.getenv "AIJIT_PYTHON" or "/usr/bin/python3"
local function has_python(module) return os.execute(("%s -c 'import %s' 2>/dev/null"):format(python, module)) == 0 end
local function output(command)
  local pipe = assert(io.popen(command .. " 2>/dev/null"))
  local text = pipe:read "*a"
  pipe:close()
  return text
end

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

local function raises(text, f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  assert(tostring(message):find(text, 1, true), ("'%s' is not in: %s"):format(text, tostring(message)))
end

local folder
before_each(function() folder = process.folder() end)
after_each(function() os.execute("rm -r " .. folder) end)

describe("a histogram", function()
  it("counts every finite value once, the greatest in the last bin", function()
    local h = media.histogram(ai.tensor{0, 1, 2, 3, 4, 4, 0 / 0, 1 / 0}, 4)
    assert.same({min = 0, max = 4, count = 6, bad = 2, sum = 14, sum_squares = 46, edges = {1, 2, 3, 4}, counts = {1, 1, 1, 3}}, h)
  end)

  it("takes every dtype, lists, one value, and none", function()
    for _, dtype in ipairs{"f16", "bf16", "f64", "i64", "u8", "bool"} do
      assert.equal(6, media.histogram(ai.ones(2, 3):to(dtype)).count)
    end
    assert.equal(3, media.histogram{1, 2, 3}.count)
    assert.same({{5}, {2}}, {media.histogram{5, 5}.edges, media.histogram{5, 5}.counts})
    assert.equal(0, media.histogram(ai.tensor{0 / 0}).count)
    raises("a tensor or a list of numbers is wanted, not x", media.histogram, "x")
  end)
end)

describe("a sound", function()
  it("is a WAV file of 16 bits, scaled down when it is too loud", function()
    local sound = media.sound(ai.tensor{{0, 0.5, -1}, {1, 0, 0.25}}, 8000)
    assert.same({2, 3, 8000}, {sound.channels, sound.frames, sound.rate})
    assert.equal("RIFF\48\0\0\0WAVEfmt \16\0\0\0\1\0\2\0\64\31\0\0\0\125\0\0\4\0\16\0data\12\0\0\0", sound.wav:sub(1, 44))
    assert.equal("\0\0\255\127\0\64\0\0\1\128\0\32", sound.wav:sub(45))
    assert.equal("\0\64\1\128", media.sound(ai.tensor{2, -4}, 8000).wav:sub(45))
  end)

  it("refuses what is none", function()
    raises("(4, 3) is no sound", media.sound, ai.zeros(4, 3), 8000)
    raises("the sample rate must be a whole number", media.sound, ai.zeros(4), 0.5)
  end)
end)

describe("a spectrogram", function()
  it("is brightest at the sound's frequency, low ones below", function()
    local t = ai.arange(0, 4095):float()
    local image = media.spectrogram((t * (2 * math.pi * 1000 / 8000)):sin(), {n_fft = 256})
    assert.same({129, 61}, {image:size(1), image:size(2)})
    local row = image:mean(2):argmax(1):item()
    assert.equal(129 - 32, row)          -- 1000 Hz of 8000 is bin 32 of 256
    assert.near(1, image:amax():item(), 1e-6)
    assert.is_true(image:amin():item() >= 0)
    assert.same({129, 1}, {media.spectrogram(ai.zeros(10), {n_fft = 256}):size(1), media.spectrogram(ai.zeros(2, 10), {n_fft = 256}):size(2)})
    raises("(2, 2, 2) is no sound", media.spectrogram, ai.zeros(2, 2, 2))
  end)
end)

describe("a video", function()
  it("is a GIF whose frames Pillow reads back: grey and few colours exactly, many colours nearly", function()
    if not has_python "PIL.Image" then return pending "Python has no Pillow" end
    ai.manual_seed(3)
    local grey = ai.randint(0, 256, {5, 37, 41}, {dtype = "u8"})
    local few = (ai.randint(0, 5, {3, 20, 30, 3}, {dtype = "i64"}) * 50):to "u8"
    local ramp = ai.arange(0, 63):float() / 63
    local many = ai.stack({ramp:unsqueeze(1):expand(64, 64), ramp:unsqueeze(2):expand(64, 64), ai.full({64, 64}, 0.5)}, 3)
    local cases = {grey = media.video(grey), few = media.video(few), many = media.video{many, many}, one = media.video(ai.zeros(1, 1, 1), 100)}
    for name, video in pairs(cases) do
      local file = assert(io.open(("%s/%s.gif"):format(folder, name), "wb"))
      file:write(video.gif)
      file:close()
    end
    ai.save(grey, folder .. "/grey.npy")
    ai.save(few, folder .. "/few.npy")
    ai.save((many * 255 + 0.5):to "u8", folder .. "/many.npy")
    local script = folder .. "/read.py"
    local file = assert(io.open(script, "w"))
    file:write [[
import sys, numpy as np
from PIL import Image
d = sys.argv[1]
def frames(name):
    im = Image.open(d + "/" + name + ".gif")
    out = []
    for i in range(im.n_frames):
        im.seek(i)
        out.append(np.asarray(im.convert("RGB")).astype(int))
    return np.stack(out), im.info["duration"], im.info.get("loop")
g, duration, loop = frames("grey")
print((g == np.load(d + "/grey.npy")[..., None]).all(), duration, loop)
f, _, _ = frames("few")
print((f == np.load(d + "/few.npy")).all())
m, _, _ = frames("many")
print(abs(m - np.load(d + "/many.npy")).max() <= 12, m.shape[0])
print(frames("one")[0].shape)
]]
    file:close()
    assert.equal("True 80 0\nTrue\nTrue 2\n(1, 1, 1, 3)\n", output(python .. " " .. script .. " " .. folder))
  end)

  it("refuses sizes and rates it cannot have", function()
    raises("fps must be from 0.002 to 100, not 0", media.video, ai.zeros(2, 4, 4), 0)
    raises("cannot tell what", media.video, ai.zeros(2, 5, 5, 5))
  end)
end)

describe("a mesh", function()
  it("has its points as f32, colours as bytes, and faces counted from 0", function()
    local mesh = media.mesh(ai.tensor{{0, 0, 0}, {1, 0, 0}, {0, 1, 0}}, {colors = ai.tensor{{1, 0, 0.5}, {0, 0, 0}, {2, 1, 1}},
      faces = ai.tensor({{1, 2, 3}}, {dtype = "i64"})})
    assert.same({3, 1, 36}, {mesh.n_vertices, mesh.n_faces, #mesh.vertices})
    assert.equal("\255\0\128\0\0\0\255\255\255", mesh.colors)
    assert.equal("\0\0\0\0\1\0\0\0\2\0\0\0", mesh.faces)
  end)

  it("of a large cloud is an even part of it", function()
    assert.equal(10, media.mesh(ai.randn(1000, 3), {max_points = 10}).n_vertices)
  end)

  it("refuses what does not fit together", function()
    raises("the points must be (N, 3), not (3, 2)", media.mesh, ai.zeros(3, 2))
    raises("3 points and 2 colours", media.mesh, ai.zeros(3, 3), {colors = ai.zeros(2, 3)})
    raises("faces name points from 1 to 4, and there are 3", media.mesh, ai.zeros(3, 3), {faces = ai.tensor({{1, 2, 4}}, {dtype = "i64"})})
  end)
end)

describe("limits by name", function()
  local Keeper = class("Keeper", log.Logger)
  function Keeper:__init(o)
    self.lines, self.interval = {}, 0
    self:limits(o, "Keeper")
  end
  function Keeper:write(line) table.insert(self.lines, line) end

  it("hold names back from one logger, and leave the others theirs", function()
    local limited, free = Keeper{interval = 0, keys = {["grad/*"] = 1000, ["grad/fc"] = 0}}, Keeper{interval = 0}
    local board = log.Board()
    board:add(limited, free)
    for step = 1, 3 do
      board:begin{step = step, phase = "train"}
      for _, name in ipairs{"loss", "grad/conv", "grad/fc"} do board:scalar(name, step) end
      board:finish()
    end
    local function names(line)
      local list = {}
      for i, pair in ipairs(line.scalars) do list[i] = pair[1] end
      return list
    end
    assert.same({"loss", "grad/conv", "grad/fc"}, names(limited.lines[1]))
    assert.same({"loss", "grad/fc"}, names(limited.lines[3]))
    assert.same({"loss", "grad/conv", "grad/fc"}, names(free.lines[3]))
  end)

  it("keep what nobody takes from being computed", function()
    local board, calls = log.Board(), 0
    board:add(Keeper{interval = 0, keys = {["big*"] = 1000}})
    for step = 1, 3 do
      board:begin{step = step, phase = "train"}
      board:text("big", function() calls = calls + 1 return "x" end)
      board:finish()
    end
    assert.equal(1, calls)
  end)

  it("hold for functions, which run without gradients", function()
    local board, on = log.Board(), nil
    board:add(Keeper{interval = 0})
    board:begin{step = 1, phase = "train"}
    board:scalar("x", function() on = ai.is_grad_enabled() return 1 end)
    board:finish()
    assert.is_false(on)
  end)

  it("are checked", function()
    raises("keys is a table of names and seconds", log.Jsonl, folder, {keys = {60}})
    raises("interval is a number of seconds, not -1", log.Jsonl, folder, {interval = -1})
  end)
end)

local Config = ai.Config.extend("MediaConfig", {width = 3, name = "x", deep = {on = true}})

local function run_all()
  local board = log.Board()
  board:add(log.TensorBoard(folder), log.Csv(folder), log.Jsonl(folder), log.Images(folder))
  board:start{name = "demo", config = Config()}
  local nn = ai.nn
  board:graph(nn.Sequential{nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)}, ai.randn(1, 4))
  for step = 1, 2 do
    board:begin({step = step, samples = step, epoch = 1, phase = "train", elapsed = 1}, {force = true})
    board:scalar("loss", 1 / step)
    if step == 2 then board:scalar("accuracy", 0.5) end
    board:histogram("weights", ai.tensor{1, 2, 3, 4}, 2)
    board:image("image", ai.zeros(2, 8, 8))
    board:audio("tone", ai.zeros(100), 16000)
    board:video("video", ai.zeros(3, 8, 10), 10)
    board:mesh("cloud", ai.tensor{{1, 2, 3}}, {colors = ai.ones(1, 3)})
    board:finish()
  end
  board:stop(true)
end

describe("what loggers keep", function()
  it("is read by TensorBoard's own reader: every kind, by the plugin that shows it", function()
    if not has_python "tensorboard" then return pending "Python has no tensorboard" end
    run_all()
    local found = json.decode(output(("%s spec/support/board.py %s/tensorboard/train"):format(python, folder)))
    assert.same({{1, 1}, {2, 0.5}}, found.scalars.loss)
    assert.same({min = 1, max = 4, num = 4, sum = 10, counts = {2, 2}, edges = {2.5, 4}}, found.histograms.weights)
    assert.same({{16000, 100, "audio/wav"}, {16000, 100, "audio/wav"}}, found.audio.tone)
    assert.same({{10, 8}, {10, 8}}, found.images.video)
    assert.same({dtype = "float32", shape = {1, 1, 3}, values = {1, 2, 3}, mesh = {"cloud", 1, {1, 1, 3}, 10}}, found.tensors.cloud_VERTEX)
    assert.same({255, 255, 255}, found.tensors.cloud_COLOR.values)
    assert.same({"mesh", "text"}, {found.plugins.cloud_COLOR, found.plugins.config})
    local start = found.hparams["_hparams_/session_start_info"].values
    assert.same({3, "x", true}, {start.width, start.name, start["deep.on"]})
    assert.same({"loss", "accuracy"}, found.hparams["_hparams_/experiment"].metrics)
    assert.equal(1, found.hparams["_hparams_/session_end_info"].status)
    assert.same({"0", "Linear", {"input"}}, found.graph[2])
    assert.same({"output", "Output", {"2"}}, found.graph[5])
  end)

  it("has hyper-parameters of programs without a config, too", function()
    if not has_python "tensorboard" then return pending "Python has no tensorboard" end
    local board = log.Board()
    board:add(log.TensorBoard(folder), log.Jsonl(folder))
    board:hparams({lr = 0.1, net = {kind = "fc"}}, {"score"}, "mine")
    board:stop(false)
    local found = json.decode(output(("%s spec/support/board.py %s/tensorboard/train"):format(python, folder))).hparams
    assert.same({lr = 0.1, ["net.kind"] = "fc"}, found["_hparams_/session_start_info"].values)
    assert.same({"score"}, found["_hparams_/experiment"].metrics)
    assert.equal(2, found["_hparams_/session_end_info"].status)
  end)

  it("is a table for spreadsheets, which grows a column when a name is new", function()
    run_all()
    local text = read(folder .. "/log.csv"):gsub("\n[%d%.]+,", "\nT,")
    assert.equal("time,phase,step,epoch,samples,loss,accuracy\nT,train,1,1,1,1,\nT,train,2,1,2,0.5,0.5\n", text)
    local again = log.Csv(folder)
    local at = again:position()
    again:write{time = 1, phase = "valid", step = 3, epoch = 1, samples = 3, scalars = {{"new", 7}}}
    assert.equal(0, again:rewind(at))
    again:write{time = 1, phase = "valid", step = 3, epoch = 1, samples = 3, scalars = {{"loss", 0 / 0}}}
    again:stop()
    assert.matches("loss,accuracy,new\n.*\n1,valid,3,1,3,nan,,\n$", read(folder .. "/log.csv"))
    assert.equal(2, #ai.load(folder .. "/log.csv", {types = {phase = "string"}}).phase - 1)
  end)

  it("is files of their own for pictures, videos, sounds and meshes, named in an index", function()
    run_all()
    local names = {}
    for line in io.lines(folder .. "/images/index.jsonl") do
      names[#names + 1] = json.decode(line).file:match "^train%-(.-)%-0000000" .. line:match '%.(%w+)"'
    end
    assert.same({"imagepng", "videogif", "tonewav", "cloudply", "imagepng", "videogif", "tonewav", "cloudply"}, names)
    local ply = read(folder .. "/images/train-cloud-00000001.ply")
    assert.equal(#ply:match "^ply.-end_header\n" + 15, #ply)
  end)

  it("names the value in an error", function()
    local board = log.Board()
    board:add(log.Images(folder))
    board:begin{step = 1, phase = "train"}
    raises("in 'cloud'", board.mesh, board, "cloud", ai.zeros(3, 2))
  end)

  it("is what the run was: code, git state, versions, machine, config", function()
    local state = log.State(folder, {code = false})
    state:start{name = "demo", config = Config()}
    local found = json.decode(read(folder .. "/state.json"))
    assert.same({"demo", ai._VERSION, jit.version, 3}, {found.name, found.versions.aijit, found.versions.lua, found.config.width})
    assert.is_true(found.host.cores >= 1 and found.host.memory_bytes > 2 ^ 20)
    log.State(folder, {code = false}):start{name = "again"}
    assert.equal("again", json.decode(read(folder .. "/state-2.json")).name)
  end)

  it("may be a figure of ai.plot, where images are taken", function()
    local board = log.Board()
    board:add(log.Images(folder))
    board:start{name = "demo"}
    board:begin({step = 1, phase = "valid"}, {force = true})
    board:image("curve", function() return ai.plot({1, 2, 3}, {width = 300, height = 200}) end)
    board:finish()
    board:stop()
    local image = ai.load(folder .. "/images/valid-curve-00000001.png")
    assert.same({200, 300}, {image:size(1), image:size(2)})
  end)

  it("is an error when its file cannot be written, which names the file, also in a loop that is compiled", function()
    if not io.open "/dev/full" then return pending "no /dev/full" end
    local Appender = require "aijit.log.appender"
    local logs = {}
    for i = 1, 100 do logs[i] = Appender(i < 100 and folder .. "/good" or "/dev/full") end
    local ok = pcall(function() for i = 1, 100 do logs[i]:write("x"):flush() end end)
    assert.is_false(ok)
    local board = log.Board()
    board:add(log.Jsonl("/dev", {name = "full"}))
    board:begin({step = 1, samples = 1, epoch = 1, phase = "train"}, {force = true})
    raises("/dev/full' cannot be written: No space left on device", board.finish, board)
  end)

  it("of a branching model links a sum to its parts", function()
    local nn = ai.nn
    local Block = class("Block", nn.Module)
    function Block:__init() nn.Module.__init(self); self.a, self.b, self.c = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 1) end
    function Block:forward(x) return self.c(self.a(x) + self.b(x)) end
    local nodes = {}
    for _, node in ipairs(require "aijit.log.graph"(Block(), ai.ones(2, 3))) do nodes[node.name] = node end
    assert.same({"a", "b"}, nodes.c.inputs)
    assert.same({"input"}, nodes.b.inputs)
    assert.same({2, 1}, nodes.c.shape)
  end)

  it("has every edge of a skip, of several inputs, of a concatenation, of a change in place and of a head that ends apart", function()
    local nn = ai.nn
    local Join = class("Join", nn.Module)
    function Join:forward(x, y) return (x * y)[{{}, {1, 2}}] end
    local Net = class("Net", nn.Module)
    function Net:__init()
      nn.Module.__init(self)
      self.a, self.b, self.join, self.relu = nn.Linear(3, 3), nn.Linear(3, 3), Join(), nn.ReLU()
      self.wide, self.embed = nn.Linear(8, 1), nn.Embedding(5, 3)
    end
    function Net:forward(x, ids)
      local a = self.a(x)
      local b = self.relu(self.b(a) + x)
      local e = self.embed(ids)
      local joined = self.join(b, a)
      b:add_(e)
      return self.wide(ai.cat({b, joined, a}, 2)), b
    end
    local net = Net()
    local nodes = {}
    for _, node in ipairs(require "aijit.log.graph"(net, ai.ones(2, 3), ai.tensor({1, 2}, {dtype = "i64"}))) do nodes[node.name] = node.inputs end
    assert.same({"input", "b"}, nodes.relu)
    assert.same({"input_2"}, nodes.embed)
    assert.same({"a", "relu"}, nodes.join)
    assert.same({"a", "relu", "embed", "join"}, nodes.wide)
    assert.same({"relu", "embed", "wide"}, nodes.output)
    assert.is_nil(net.a.weight.grad)
    assert.is_true(net.training)
  end)

  it("is drawn without gradients being asked for, too, and leaves no hook behind when the model fails", function()
    local nn = ai.nn
    local model = nn.Sequential{nn.Linear(3, 3), nn.ReLU()}
    local nodes = ai.no_grad(function() return require "aijit.log.graph"(model, ai.ones(1, 3)) end)
    assert.same({"0"}, nodes[3].inputs)
    assert.is_false(pcall(require "aijit.log.graph", model, ai.ones(1, 4)))
    assert.is_nil(rawget(model[1], "_hooks"))
    assert.is_true(model.training)
  end)
end)
