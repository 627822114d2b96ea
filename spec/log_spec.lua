local ai = require "aijit"
local class = require "aijit.class"
local crc32c = require("aijit.io.file").crc32c
local event = require "aijit.log.event"
local font = require "aijit.log.font"
local jsonl = require "aijit.log.jsonl"
local log = require "aijit.log"
local picture = require "aijit.log.picture"
local progress = require "aijit.log.progress"
local record = require "aijit.log.record"
local process = require "support.process"
local system = require "aijit.bindings.system"


local message = require "spec.support.raises"

local function read(path)
  local file = assert(io.open(path, "rb"))
  local content = file:read("*a")
  file:close()
  return content
end

local function write(path, content)
  local file = assert(io.open(path, "wb"))
  file:write(content)
  file:close()
end

local folder
before_each(function() folder = process.folder() end)
after_each(function() os.execute("rm -r " .. folder) end)

local function a_line(o)
  local line = {
    step = 5, samples = 40, epoch = 1, phase = "train", time = 1795257234.125, elapsed = 2, scalars = {}, texts = {}, images = {},
    histograms = {}, sounds = {}, videos = {}, meshes = {},
  }
  for name, value in pairs(o or {}) do line[name] = value end
  return line
end

--- A logger that keeps its lines.
local Keeper = class("Keeper", log.Logger)
function Keeper:__init(o)
  self.lines, self.interval = {}, 0
  for name, value in pairs(o or {}) do self[name] = value end
end
function Keeper:write(line) table.insert(self.lines, line) end

describe("the board", function()
  local function board_with(...)
    local board = log.Board()
    board:add(...)
    return board
  end

  it("hands a line to every logger that is due", function()
    local often, seldom = Keeper(), Keeper {interval = 1000}
    local board = board_with(often, seldom)
    for step = 1, 3 do
      board:begin {step = step, phase = "train"}
      board:scalar("loss", step / 2)
      board:finish()
    end
    assert.equal(3, #often.lines)
    assert.equal(1, #seldom.lines)
    assert.same({{"loss", 1.5}}, often.lines[3].scalars)
  end)

  it("counts the time of each phase by itself", function()
    local keeper = Keeper {interval = 1000}
    local board = board_with(keeper)
    for _, phase in ipairs {"train", "valid", "train", "valid"} do
      board:begin {step = 1, phase = phase}
      board:finish()
    end
    assert.equal(2, #keeper.lines)
  end)

  it("calls a function for a value only when a logger is due, and once for all of them", function()
    local calls = 0
    local function value()
      calls = calls + 1
      return calls
    end
    local board = board_with(Keeper {interval = 1000}, Keeper {interval = 1000})
    for step = 1, 3 do
      board:begin {step = step, phase = "train"}
      board:scalar("x", value)
      board:finish()
    end
    assert.equal(1, calls)
  end)

  it("does not compute what no logger can show", function()
    local board = board_with(Keeper {kinds = {scalar = true}})
    board:begin {step = 1, phase = "train"}
    board:image("x", function() error "computed" end)
    board:text("x", function() error "computed" end)
    board:finish()
  end)

  it("gives the weighted mean of a name that comes several times in a line", function()
    local keeper = Keeper()
    local board = board_with(keeper)
    board:begin {step = 1, phase = "valid"}
    board:scalar("loss", 1, 30)
    board:scalar("loss", 4, 10)
    board:finish()
    assert.near(1.75, keeper.lines[1].scalars[1][2], 1e-12)
  end)

  it("takes only the first image and text of a name", function()
    local keeper = Keeper()
    local board = board_with(keeper)
    board:begin {step = 1, phase = "valid"}
    board:text("note", "one")
    board:text("note", function() error "computed" end)
    board:finish()
    assert.same({{"note", "one"}}, keeper.lines[1].texts)
  end)

  it("drops values outside a line", function()
    local board = board_with(Keeper())
    board:scalar("x", 1)
    assert.is_nil(board:finish())
  end)

  it("refuses what is no logger", function()
    assert.matches("argument 2 is nil, not a logger such as", message(log.Board().add, log.Board(), Keeper(), nil))
    assert.matches("argument 1 is a table, not a logger", message(log.Board().add, log.Board(), {}))
  end)

  it("refuses a value that is no number", function()
    local board = board_with(Keeper())
    board:begin {step = 1, phase = "train"}
    assert.matches("log_scalar: 'x' is yes: a number", message(board.scalar, board, "x", "yes"))
  end)

  it("ends the other loggers when one fails to end", function()
    local ended = false
    local bad, good = Keeper(), Keeper()
    function bad.stop() error "no" end
    function good.stop() ended = true end
    local stderr = io.stderr
    rawset(io, "stderr", {write = function() end})
    board_with(bad, good):stop()
    rawset(io, "stderr", stderr)
    assert.is_true(ended)
  end)
end)

describe("progress", function()
  it("shows durations", function()
    assert.equal("00:05", progress.duration(5.2))
    assert.equal("1:02:03", progress.duration(3723))
    assert.equal("2d 00:00:01", progress.duration(172801))
    assert.equal("?", progress.duration(math.huge))
  end)

  it("shows rates above and below one step a second", function()
    assert.equal("39.9 it/s", progress.rate(39.9))
    assert.equal("2.00 s/it", progress.rate(0.5))
    assert.equal("? it/s", progress.rate(nil))
  end)

  it("draws bars of eighths of a column", function()
    assert.equal("██  ", progress.bar(0.5, 4))
    assert.equal("▌   ", progress.bar(0.125, 4))
    assert.equal("████", progress.bar(2, 4))
    assert.equal("    ", progress.bar(0, 4))
  end)

  it("shows numbers in four figures", function()
    local shown = {}
    for _, x in ipairs {0.31256, 12, 1e-5, 123456.5, 0, 0.5} do shown[#shown + 1] = progress.number(x) end
    assert.same({"0.3126", "12", "1e-05", "1.23e+05", "0", "0.5"}, shown)
  end)

  it("smooths the rate", function()
    local meter = progress.Meter()
    meter:update(0, 0)
    meter:update(10, 1)
    assert.equal(10, meter.rate)
    meter:update(30, 2)
    assert.near(13, meter.rate, 1e-9)
    assert.near(70 / 13, meter:eta(100), 1e-9)
  end)
end)

describe("the terminal's logger", function()
  local function captured(o)
    local out = {}
    o.write = function(text) out[#out + 1] = text end
    return log.Stdout(o), out
  end

  it("draws one line again and again on a terminal, no wider than it: the bar shrinks, then whole values are left out", function()
    local function drawn(columns)
      local logger, out = captured {terminal = true, columns = columns}
      logger:write(a_line {progress = 0.25, total = 20, scalars = {{"loss", 0.5}, {"a_very_long_name_of_a_value", 1}}})
      assert.is_nil(out[1]:find("\n"))
      return (out[1]:gsub("^\r\27%[K", ""))
    end
    assert.equal("train  25%|████            | 5/20 [00:02<00:06, ? it/s]  loss=0.5, a_very_long_name_of_a_value=1", drawn(120))
    assert.equal("train  25%|█▌    | 5/20 [00:02<00:06, ? it/s]  loss=0.5, a_very_long_name_of_a_value=1", drawn(87))
    assert.equal("train  25% 5/20 [00:02<00:06, ? it/s]  loss=0.5, a_very_long_name_of_a_value=1", drawn(79))
    assert.equal("train  25%|████            | 5/20 [00:02<00:06, ? it/s]  loss=0.5", drawn(70))
    assert.equal("train  25% 5/20 [00:02<00:06, ? it/s]", drawn(42))
    assert.equal("train  25% 5/20 [00", drawn(20))
  end)

  it("writes plain lines elsewhere: one each tenth of the work", function()
    local logger = captured {terminal = false}
    local due = 0
    for step = 1, 100 do
      if logger:due("train", 0, false, {progress = step / 100}) then due = due + 1 end
    end
    assert.equal(11, due)
    assert.equal("train  25% 5/20 [00:02<00:06, ? it/s]  loss=0.5",
      logger:format(a_line {progress = 0.25, total = 20, scalars = {{"loss", 0.5}}}))
  end)

  it("writes validations on a line of their own", function()
    local logger, out = captured {terminal = true, columns = 60}
    logger:write(a_line {progress = 0.5})
    logger:write(a_line {phase = "valid", scalars = {{"loss", 0.25}, {"accuracy", 0.981}}})
    assert.equal("valid step 5, epoch 1: loss=0.25, accuracy=0.981\n", out[#out])
    assert.equal("\r\27[K", out[#out - 1])
  end)
end)

describe("JSON Lines", function()
  it("are objects with the step first, names with their phase", function()
    local logger = log.Jsonl(folder)
    logger:write(a_line {scalars = {{"loss", 0.1}}, texts = {{"note", 'say "hi"\n'}}})
    logger:stop()
    assert.equal('{"t":1795257234.125,"step":5,"epoch":1,"samples":40,"phase":"train","train/loss":0.1,'
      .. '"train/note":"say \\"hi\\"\\n"}\n', read(folder .. "/log.jsonl"))
  end)

  it("write NaN and the infinities as texts", function()
    assert.equal('{"a":"NaN","b":"Infinity","c":"-Infinity"}', jsonl.line {{"a", 0 / 0}, {"b", 1 / 0}, {"c", -1 / 0}})
  end)

  it("keep every digit that matters", function()
    local value = tonumber(jsonl.line({{"x", 0.1 + 0.2}}):match(":(.*)}"))
    assert.equal(0.1 + 0.2, value)
  end)

  it("are appended, after a line that was torn too", function()
    write(folder .. "/log.jsonl", '{"a":1}\n{"b":')
    local logger = log.Jsonl(folder)
    logger:write(a_line())
    logger:stop()
    local lines = {}
    for line in read(folder .. "/log.jsonl"):gmatch("[^\n]+") do lines[#lines + 1] = line end
    assert.equal(3, #lines)
    assert.matches('^{"t":.*}$', lines[3])
  end)

  it("refuse a folder that is no text", function() assert.matches("the folder is nil", message(log.Jsonl, nil)) end)
end)

-- An independent reader of event files: frames and their checks, then protocol buffer fields.
local function little(text) local n = 0; for i = #text, 1, -1 do n = n * 256 + text:byte(i) end; return n end

local function masked(text)
  local c = crc32c(text)
  local rotated = (math.floor(c / 2 ^ 15) + c * 2 ^ 17) % 2 ^ 32
  return (rotated + 0xa282ead8) % 2 ^ 32
end

local function records(bytes)
  local list, at = {}, 1
  while at <= #bytes do
    local length = little(bytes:sub(at, at + 7))
    assert.equal(masked(bytes:sub(at, at + 7)), little(bytes:sub(at + 8, at + 11)))
    local data = bytes:sub(at + 12, at + 11 + length)
    assert.equal(masked(data), little(bytes:sub(at + 12 + length, at + 15 + length)))
    list[#list + 1] = data
    at = at + 16 + length
  end
  return list
end

local function fields(data)
  local list, at = {}, 1
  local function varint()
    local n, scale = 0, 1
    while true do
      local byte = data:byte(at)
      at = at + 1
      n, scale = n + byte % 128 * scale, scale * 128
      if byte < 128 then return n end
    end
  end
  while at <= #data do
    local tag = varint()
    local kind = tag % 8
    local value
    if kind == 0 then
      value = varint()
    else
      local size = kind == 1 and 8 or kind == 5 and 4 or varint()
      value = data:sub(at, at + size - 1)
      at = at + size
    end
    local number = math.floor(tag / 8)
    list[number] = list[number] or {}
    table.insert(list[number], value)
  end
  return list
end

describe("TensorBoard files", function()
  local function events_of(phase)
    local pipe = io.popen(("ls %s/tensorboard/%s"):format(folder, phase))
    local name = pipe:read("*l")
    pipe:close()
    assert.matches("^events%.out%.tfevents%.%d+%..+%.%d+%.%d+$", name)
    local list = {}
    for i, data in ipairs(records(read(("%s/tensorboard/%s/%s"):format(folder, phase, name)))) do list[i] = fields(data) end
    return list
  end

  it("begin with their version, and hold scalars and texts with their steps", function()
    local logger = log.TensorBoard(folder)
    logger:start {config = "rate: 1\n"}
    logger:write(a_line {step = 300, scalars = {{"loss", 0.5}}, texts = {{"note", "hello"}}})
    logger:stop()
    local list = events_of "train"
    assert.equal(3, #list)
    assert.equal("brain.Event:2", list[1][3][1])
    assert.equal(300, list[3][2][1])
    local values = fields(list[3][5][1])[1]
    local scalar, text = fields(values[1]), fields(values[2])
    assert.same({"loss", "\0\0\0\63"}, {scalar[1][1], scalar[2][1]})
    assert.equal("note", text[1][1])
    assert.equal("text", fields(fields(text[9][1])[1][1])[1][1])
    assert.equal("hello", fields(text[8][1])[8][1])
  end)

  it("keep phases in folders of their own", function()
    local logger = log.TensorBoard(folder)
    logger:write(a_line {phase = "valid", scalars = {{"loss", 1}}})
    logger:stop()
    assert.equal(2, #events_of "valid")
  end)

  it("hold numbers in IEEE 754 form", function()
    local ffi = require "ffi"
    local values = {0, 1, -1, 0.1, 1 / 3, 1e-40, 1e-45, 3e38, 1e39, 1 / 0, -1 / 0, 2 ^ 52 + 1, 1e-300, 5e-324, 123456.789}
    for _, value in ipairs(values) do
      assert.equal(ffi.string(ffi.new("double[1]", value), 8), event.double(value))
      assert.equal(ffi.string(ffi.new("float[1]", value), 4), event.float(value))
    end
  end)

  it("hold NaN as NaN", function() assert.equal("\0\0\192\127", event.float(0 / 0)) end)
end)

describe("the font", function()
  it("has a letter of five by eight dots for each of ASCII 32 to 126", function()
    local seen = {}
    for code = 32, 126 do
      local rows = {}
      for row = 1, font.height do
        rows[row] = font.row(string.char(code), row)
        assert.matches("^[.#][.#][.#][.#][.#]%.$", rows[row])
      end
      local shape = table.concat(rows)
      assert.is_nil(seen[shape], ("%q looks like %q"):format(string.char(code), string.char(seen[shape] or 32)))
      seen[shape] = code
    end
  end)

  it("breaks lines between words, and words that are too long", function()
    assert.same({"the quick", "brown fox"}, font.wrap("the quick  brown\nfox", 10))
    assert.same({"abcdefgh", "ij kl"}, font.wrap("abcdefghij kl", 8))
    assert.same({}, font.wrap("  ", 8))
  end)

  it("draws one box for a letter it does not have", function()
    assert.equal("f\127x", font.plain "föx")
  end)
end)

describe("what is kept of a run", function()
  it("is its config and how it was started", function()
    record.write(folder, {config = {rate = 0.5}, name = "try"})
    assert.equal("rate: 0.5\n", read(folder .. "/config.yaml"))
    assert.matches('"name":"try".*"command":.*"host":', read(folder .. "/run.json"))
  end)

  it("is its source, without what git ignores", function()
    os.execute(("cd %s && git init -q . && mkdir -p code build && echo 'build/' > .gitignore && echo 1 > code/a.lua && "
      .. "echo 2 > build/b.lua && echo 3 > 'code/it'\"'\"'s.md' && echo 4 > data.bin"):format(folder))
    local paths = record.sources(folder)
    table.sort(paths)
    assert.same({"code/a.lua", "code/it's.md"}, paths)
    assert.equal(2, (record.copy_sources(folder, folder .. "/copy")))
    assert.equal("1\n", read(folder .. "/copy/code/a.lua"))
  end)

  it("is its source, without what other runs left in the folder, with git or without", function()
    os.execute(("cd %s && mkdir -p runs/t/run_1/code logs/src nested && echo 1 > a.lua && echo 1 > nested/run.json && echo 1 > nested/b.lua && "
      .. "cd runs/t/run_1 && touch run.json config.yaml log.jsonl code/a.lua && cd ../../../logs && touch state.json src/a.lua"):format(folder))
    for _ = 1, 2 do
      local paths = record.sources(folder)
      table.sort(paths)
      assert.same({"a.lua", "logs/state.json", "nested/b.lua", "nested/run.json"}, paths)
      os.execute(("cd %s && git init -q ."):format(folder))
    end
  end)
end)

describe("a logger's options", function()
  it("are known by name, and one that is not is an error with the nearest", function()
    for _, case in ipairs {{"Jsonl", "intervall"}, {"Csv", "intervall"}, {"TensorBoard", "intervall"}, {"Images", "intervall"}} do
      local ok, problem = pcall(log[case[1]], "folder", {[case[2]] = 3})
      assert.is_false(ok)
      assert.matches(("ai.log.%s: there is no option 'intervall'; did you mean 'interval'?"):format(case[1]), problem, 1, true)
    end
    assert.is_false(pcall(log.Stdout, {intervall = 3}))
    local ok, problem = pcall(log.Jsonl, "folder", 3)
    assert.is_false(ok)
    assert.matches("ai.log.Jsonl: the options are a table, not 3", problem, 1, true)
  end)
end)

describe("logging by functions", function()
  local stdout, stderr = io.stdout, io.stderr
  local said, warned
  before_each(function()
    said, warned = {}, {}
    local function keep(_, ...)
      for _, part in ipairs {...} do said[#said + 1] = part end
    end
    rawset(io, "stdout", {write = keep, flush = function() end})
    rawset(io, "stderr", {write = function(_, ...) for _, part in ipairs {...} do warned[#warned + 1] = part end end})
  end)
  after_each(function()
    rawset(io, "stdout", stdout)
    rawset(io, "stderr", stderr)
    log.close()
  end)

  it("makes a folder named by date and experiment, with the config in it", function()
    local dir = log.setup {config = {train = {experiment_name = "First"}}, dir = folder, code = false}
    assert.matches("/%d%d%d%d%-%d%d%-%d%d_%d%d%.%d%d%.%d%d_First$", dir)
    assert.is_true(system.is_directory(dir .. "/images"))
    assert.matches("experiment_name: First", read(dir .. "/config.yaml"))
  end)

  it("gives two runs of one second two folders", function()
    local a = log.setup {dir = folder, code = false}
    log.close()
    assert.not_equal(a, log.setup {dir = folder, code = false})
  end)

  it("refuses a second setup, naming the first", function()
    local dir = log.setup {dir = folder, code = false}
    assert.matches("already set up, in '" .. dir:gsub("%p", "%%%0") .. "'", message(log.setup, {}))
  end)

  it("appends values as lines", function()
    local dir = log.setup {dir = folder, code = false}
    log.log_value("loss", 0.42, {primary = true})
    assert.matches('^{"t":[%d.]+,"name":"loss","value":0.42,"primary":true}\n$', read(dir .. "/log.jsonl"))
    assert.matches("'loss' is x, not a number", message(log.log_value, "loss", "x"))
  end)

  it("tells progress and the time that is left", function()
    log.setup {dir = folder, code = false}
    local eta = log.update_progress(0.5)
    assert.is_true(eta >= 0 and eta < 5)
    assert.equal(0, log.update_progress(1))
    assert.matches("100.0%%, 00:00 left\n", said[#said])
    assert.matches("a number from 0 to 1, not 2", message(log.update_progress, 2))
  end)

  it("warns when nothing was set up", function()
    log.log_value("loss", 1)
    assert.matches("log.setup was not called", table.concat(warned))
  end)
end)

describe("pictures", function()
  it("are made of every usual layout", function()
    local shapes = {
      {{28, 28}, {1, 28, 28, 1}}, {{3, 8, 9}, {1, 8, 9, 3}}, {{8, 9, 3}, {1, 8, 9, 3}}, {{5, 8, 9}, {5, 8, 9, 1}},
      {{5, 3, 8, 9}, {5, 8, 9, 3}}, {{5, 8, 9, 1}, {5, 8, 9, 1}},
    }
    for _, case in ipairs(shapes) do
      local t = picture.batch(ai.zeros(unpack(case[1])))
      assert.same(case[2], {t:size(1), t:size(2), t:size(3), t:size(4)})
      assert.equal("u8", t.dtype)
    end
    assert.matches("cannot tell what %(2, 5, 6, 7%) is", message(picture.batch, ai.zeros(2, 5, 6, 7)))
  end)

  it("take floats from 0 to 1, wider if they are", function()
    local t = picture.batch(ai.tensor {{0, 0.5, 1}}):reshape(3)
    assert.same({0, 128, 255}, {t[1]:item(), t[2]:item(), t[3]:item()})
    t = picture.batch(ai.tensor {{-1, 0, 1}}):reshape(3)
    assert.same({0, 128, 255}, {t[1]:item(), t[2]:item(), t[3]:item()})
  end)

  it("are tiled to a near-square grid", function()
    assert.same({2, 3}, {picture.grid(5)})
    assert.same({4, 4}, {picture.grid(16)})
    assert.same({1, 1}, {picture.grid(1)})
    local t = picture.tile(ai.zeros(5, 120, 130), nil)
    assert.same({2 * 122 - 2, 3 * 132 - 2, 1}, {t:size(1), t:size(2), t:size(3)})
  end)

  it("have room for their captions below, and the letters in it", function()
    local plain = picture.tile(ai.zeros(2, 28, 28))
    local t = picture.tile(ai.zeros(2, 28, 28), {"one", "two words"})
    assert.equal(plain:size(1) + font.height + 1 + 2, t:size(1))
    assert.is_true(t:to("f32"):sum():item() > 0)
  end)

  it("of several sizes are made equal", function()
    local t = picture.tile({ai.zeros(3, 120, 130), ai.ones(140, 120)})
    assert.same({140, 2 * 132 - 2, 3}, {t:size(1), t:size(2), t:size(3)})
  end)

  it("show an evenly spaced part of many", function()
    assert.same({1, 4, 7}, picture.subset(9, 3))
    assert.same({1, 2}, picture.subset(2, 36))
  end)

  it("are written by the logger of images, with an index of captions", function()
    local logger = log.Images(folder)
    logger:write(a_line {phase = "valid", images = {{name = "digits", images = ai.zeros(2, 28, 28), captions = {"a", "b"}}}})
    logger:stop()
    local t = ai.image.read(folder .. "/images/valid-digits-00000005.png")
    assert.equal(226, t:size(2))
    assert.matches('"captions":"a | b"', read(folder .. "/images/index.jsonl"))
  end)

  it("are written to TensorBoard with their size", function()
    local logger = log.TensorBoard(folder)
    logger:write(a_line {images = {{name = "digits", images = ai.zeros(1, 28, 28), captions = {"seven"}}}})
    logger:stop()
    local pipe = io.popen(("cat %s/tensorboard/train/*"):format(folder))
    local list = records(pipe:read("*a"))
    pipe:close()
    local values = fields(fields(list[2])[5][1])[1]
    local image = fields(fields(values[1])[4][1])
    assert.same({123, 112, 1}, {image[1][1], image[2][1], image[3][1]})
    assert.equal("\137PNG", image[4][1]:sub(1, 4))
    assert.equal("digits/captions", fields(values[2])[1][1])
  end)

  it("are written by log_image as images/NAME.png", function()
    local dir = log.setup {dir = folder, code = false}
    local path = log.log_image("Figure", ai.zeros(10, 12, 3))
    log.close()
    assert.equal(dir .. "/images/Figure.png", path)
    assert.equal(12, ai.image.read(path):size(2))
  end)
end)
