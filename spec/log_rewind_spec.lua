--- Logs of a resumed run: cut back to where the checkpoint found them.

local ai = require "aijit"
local Appender = require "aijit.log.appender"
local files = require "support.files"

local folder
before_each(function() folder = files.folder() end)
after_each(function() files.remove(folder) end)

local function line(step, more)
  local result = {step = step, samples = step, epoch = 1, phase = "train", time = step, elapsed = step,
                  scalars = {{"loss", step}}, texts = {}, images = {},
                  histograms = {}, sounds = {}, videos = {}, meshes = {}}
  for name, value in pairs(more or {}) do result[name] = value end
  return result
end

--- Logs steps 1 and 2, notes the place, logs 3 and 4; then, as another process, goes back and logs 3.
local function resumed(make, more)
  local board = ai.log.Board()
  board:add(make())
  board:start {}
  local function write(b, step) for _, logger in ipairs(b.loggers) do logger:write(line(step, more)) end end
  write(board, 1)
  write(board, 2)
  local position = ai.json.decode(ai.json.encode(board:position()))
  write(board, 3)
  write(board, 4)
  board:stop()
  local again = ai.log.Board()
  again:add(make())
  again:start {}
  local problems = again:rewind(position)
  write(again, 3)
  again:stop()
  return problems
end

describe("a log that is cut back", function()
  it("has each line once: JSON Lines", function()
    assert.same({}, resumed(function() return ai.log.Jsonl(folder) end))
    local steps = {}
    for text in io.lines(folder .. "/log.jsonl") do steps[#steps + 1] = ai.json.decode(text).step end
    assert.same({1, 2, 3}, steps)
  end)

  it("has each event once: TensorBoard", function()
    assert.same({}, resumed(function() return ai.log.TensorBoard(folder) end))
    local sizes = {}
    for _, name in ipairs(files.list(folder .. "/tensorboard/train")) do
      sizes[#sizes + 1] = #files.get(folder .. "/tensorboard/train/" .. name)
    end
    local one = #files.get(folder .. "/tensorboard/train/" .. files.list(folder .. "/tensorboard/train")[1])
    assert.equal(2, #sizes)
    assert.is_true(sizes[1] > sizes[2] and one == sizes[1])
  end)

  it("forgets files of events that the checkpoint does not know", function()
    local logger = ai.log.TensorBoard(folder)
    local position = logger:position()
    logger:write(line(1))
    logger:rewind(position)
    assert.same({}, files.list(folder .. "/tensorboard/train"))
  end)

  it("loses the pictures that came after, too", function()
    resumed(function() return ai.log.Images(folder) end, {images = {{name = "x", images = ai.rand(1, 4, 4)}}})
    assert.same({"index.jsonl", "train-x-00000001.png", "train-x-00000002.png", "train-x-00000003.png"}, files.list(folder .. "/images"))
    local count = 0
    for _ in io.lines(folder .. "/images/index.jsonl") do count = count + 1 end
    assert.equal(3, count)
  end)

  it("says what it has lost", function()
    local log = Appender(folder .. "/short")
    log:write("abc")
    assert.equal(3, log:position())
    assert.equal(4, log:rewind(7))
    log:close()
  end)

  it("names the file that cannot be written, and why", function()
    if not io.open("/dev/full") then return pending "no /dev/full" end
    local log = Appender("/dev/full")
    log:write("abc")
    local ok, problem = pcall(log.flush, log)
    assert.is_false(ok)
    assert.matches("^the log '/dev/full' cannot be written: No space left on device", problem)
  end)
end)
