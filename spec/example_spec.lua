-- The programs of examples/autoencoder, examples/gan and examples/tagger, in short. The claims of their READMEs are #slow.

local ai = require "aijit"
local process = require "support.process"

local examples = require("aijit.tree").examples

local folder
before_each(function() folder = process.folder() end)
after_each(function() os.execute("rm -r " .. folder) end)

local function example(name)
  local Task = assert(loadfile(("%s/%s/train.lua"):format(examples, name)))()
  function Task:set_loggers() self:add_logger(ai.log.Images(self.exp_dir)) end
  return Task
end

local function launch(Task, words)
  table.insert(words, "run_dir=" .. folder)
  return Task:launch(nil, words)
end

describe("examples/autoencoder/train.lua", function()
  it("draws digits again from their codes, and logs both", function()
    local task = launch(example "autoencoder", {"max_steps=15", "batch_size=16", "valid_batch_size=500", "nc_min=4", "nc_max=8", "shown=6"})
    assert.is_true(task.state.valid.loss < 2, "loss " .. task.state.valid.loss)
    assert.near(-10 * math.log10(task.state.valid.loss / 4), task.state.valid.psnr, 0.5)
    local picture = ai.image.read(task.exp_dir .. "/images/valid-reconstructions-00000015.png")
    assert.equal(3, picture:size(2) / picture:size(1))                 -- 2 rows of 6
    assert.same({1, 8, 2, 2}, task.model.encode(ai.zeros(1, 1, 32, 32)).shape)
  end)

  it("reaches 17 decibels with 64 numbers a digit #slow", function()
    local task = launch(example "autoencoder", {"batch_size=64"})
    assert.is_true(task.state.valid.psnr > 17, "psnr " .. task.state.valid.psnr)
  end)
end)

describe("examples/gan/train.lua", function()
  it("trains both networks, each with its own optimizer and loss, and draws", function()
    local Gan = example "gan"
    local before, during = nil, {}
    local function weights(task) return {task.generator[1].weight[{1, 1}]:item(), task.discriminator[1].weight[{1, 1, 1, 1}]:item()} end
    function Gan:on_training_start() before = weights(self) end
    function Gan:on_step_end() during[#during + 1] = weights(self) end
    local task = launch(Gan, {"max_steps=4", "batch_size=8", "valid_batch_size=1000", "channels=4", "shown=20"})
    for k = 1, 2 do assert.is_true(before[k] ~= during[1][k] and during[1][k] ~= during[4][k]) end
    assert.is_number(task.state.valid["loss/discriminator"])
    assert.is_number(task.state.valid["loss/generator"])
    local picture = ai.image.read(task.exp_dir .. "/images/valid-drawn-00000004.png")
    assert.equal(5, picture:size(2) / picture:size(1))                 -- 2 rows of 10
  end)
end)

describe("examples/tagger/train.lua", function()
  it("learns in forty steps to do better than a word's most frequent tag", function()
    local task = launch(example "tagger", {"max_steps=40", "hidden=24", "learning_rate=0.01"})
    local baseline = task:baseline()
    assert.is_true(baseline > 0.75 and baseline < 0.82, "baseline " .. baseline)
    assert.is_true(task.state.valid.accuracy > baseline + 0.05, "accuracy " .. task.state.valid.accuracy)
    assert.matches("^the/%u+ can/%u+ %./PUNCT$", task:tag "the can .")
    assert.error_matches(function() task:tag "the zebra" end, "does not have the word 'zebra'")
  end)

  it("tags 98 of 100 held-out words, and can from can #slow", function()
    local task = launch(example "tagger", {})
    assert.is_true(task.state.valid.accuracy > 0.98, "accuracy " .. task.state.valid.accuracy)
    assert.equal("the/DET light/ADJ can/NOUN will/AUX light/VERB the/DET light/ADJ can/NOUN ./PUNCT",
      task:tag "the light can will light the light can .")
  end)

  it("has the text that its grammar writes", function()
    local lines, here = {}, examples .. "/tagger/"
    local env = setmetatable({print = function(text) lines[#lines + 1] = text end}, {__index = _G})
    setfenv(assert(loadfile(here .. "grammar.lua")), env)()
    local file = assert(io.open(here .. "sentences.txt"))
    assert.is_true(file:read "*a" == table.concat(lines, "\n") .. "\n")
    file:close()
  end)
end)
