--- ai.lab: searches for good values of a program's settings. See lab/study.lua for what a study is, lab/task.lua for studies over a
--- task's config, lab/launcher.lua for how runs are carried out.

local launcher = require "aijit.lab.launcher"
local sampler = require "aijit.lab.sampler"
local space = require "aijit.lab.space"

return {
  Study = require "aijit.lab.study",
  uniform = space.uniform, loguniform = space.loguniform, int = space.int, choice = space.choice,
  Random = sampler.Random, TPE = sampler.TPE, ASHA = require "aijit.lab.asha",
  Processes = launcher.Processes,
}
