--- The fields that every training program has, from `ai.Config`. `ai.Task` reads them.

local schema = require "aijit.config.schema"

local field = schema.field

return {
  batch_size = field(32, {help = "Samples in a training batch", type = "integer", min = 1}),
  valid_batch_size = field(256, {help = "Samples in a validation batch", type = "integer", min = 1}),
  num_workers = field(0, {help = "Threads that load data", type = "integer", min = 0}),
  max_epochs = field(nil, {help = "Stop after so many passes over the training data", type = "integer", min = 0}),
  max_steps = field(nil, {help = "Stop after so many optimizer steps", type = "integer", min = 0}),
  max_seconds = field(nil, {help = "Stop after so many seconds of training", type = "number", min = 0}),
  valid_every_n_steps = field(nil, {help = "Validate after so many steps; else after each epoch", type = "integer", min = 1}),
  valid_on_first_step = field(false, {help = "Validate before the first step too"}),
  clip_grad_norm = field(10.0, {help = "Largest norm of all gradients together; 0 leaves them as they are", min = 0}),
  seed = field(1337, {help = "Seed of parameters, dropout and shuffling", type = "integer", min = 0}),
  device = field("cpu", {help = "Where the model is trained: cpu, cuda:0"}),
  run_dir = field(nil, {help = "Folder of the numbered runs; else $RUN_DIR, else ./runs", type = "string"}),
  exp_dir = field(nil, {help = "Folder of this run; one that holds a checkpoint is resumed", type = "string"}),
  save_every_n_seconds = field(3600, {help = "Seconds between checkpoints; one is always saved at the end", min = 0}),
  optim = {
    name = field("adamw", {help = "Optimizer of a task that does not build its own", choices = {
      "adamw", "adam", "sgd", "lion", "adan", "rmsprop", "adagrad", "adadelta", "adamax", "nadam", "radam", "lamb", "muon", "schedule_free",
    }}),
    lr = field(1e-3, {help = "Learning rate of a task that does not build its own optimizer", min = 0}),
    weight_decay = field(1e-2, {help = "Weight decay of a task that does not build its own optimizer", min = 0}),
  },
}
