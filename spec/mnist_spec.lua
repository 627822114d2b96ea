-- The examples of examples/mnist, as programs. What takes long is marked #slow.

local ai = require "aijit"
local process = require "support.process"

local examples = require("aijit.tree").examples

local folder
before_each(function() folder = process.folder() end)
after_each(function() os.execute("rm -r " .. folder) end)

local function example(name) return assert(loadfile(examples .. "/mnist/" .. name))() end

describe("examples/mnist/train.lua", function()
  it("is a module when it is not the program", function()
    assert.equal("MnistClassification", example("train.lua").__name)
  end)

  it("learns in sixty steps to tell most digits", function()
    local Mnist = example "train.lua"
    function Mnist:set_loggers() self:add_logger(ai.log.Images(self.exp_dir)) end
    local task = Mnist:launch(Mnist.Config {run_dir = folder, batch_size = 32}, {"max_steps=60", "warmup_steps=5"})
    assert.is_true(task.state.valid.accuracy > 0.8, "accuracy " .. task.state.valid.accuracy)
    local picture = ai.image.read(task.exp_dir .. "/images/valid-images-00000060.png")
    assert.is_true(picture:size(1) > 600 and picture:size(2) > 600)
  end)

  it("tells at least 98 of 100 held-out digits #slow", function()
    local Mnist = example "train.lua"
    function Mnist:set_loggers() self:add_logger(ai.log.Jsonl(self.exp_dir)) end
    local task = Mnist:launch(Mnist.Config {run_dir = folder, batch_size = 64}, {})
    assert.is_true(task.state.valid.accuracy >= 0.98, "accuracy " .. task.state.valid.accuracy)
  end)
end)

describe("examples/mnist/fc.lua", function()
  it("learns in one pass to tell most digits", function()
    local fc = example "fc.lua"
    local print_now = print
    rawset(_G, "print", function() end)
    local ok, _, accuracy = pcall(fc.train, fc.Config {epochs = 1})
    rawset(_G, "print", print_now)
    assert(ok, _)
    assert.is_true(accuracy > 0.8, "accuracy " .. accuracy)
  end)
end)
