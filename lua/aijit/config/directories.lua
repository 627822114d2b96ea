--- `ai.get_run_dir()` and `ai.get_model_dir()`; `ai.get_data_dir()` stands with the data sets.

local user = require "aijit.config.user"

return {
  --- The folder of numbered runs: $RUN_DIR, else what ~/.aijit.yaml says, else "runs". It need not exist.
  ---@return string
  run = function() return user.directory("run", "RUN_DIR") or "runs" end,

  --- The folder of pretrained models: $MODEL_DIR, else what ~/.aijit.yaml says, else "models" in the folder of data sets.
  ---@return string
  models = function() return user.directory("models", "MODEL_DIR") or require "aijit.data.directory"() .. "/models" end,
}
