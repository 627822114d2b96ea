--- The fields that every training program has, from `ai.Config`. `ai.Task` reads them.

local schema = require "aijit.config.schema"

local field = schema.field

return {
  batch_size = field(32, {help = "Samples in a training batch", type = "integer", min = 1}),
  valid_batch_size = field(256, {help = "Samples in a validation batch", type = "integer", min = 1}),
  num_workers = field(0, {help = "Threads that load data; 0: the training loads them itself", type = "integer", min = 0}),
  prefetch = field(2, {help = "Batches for each of num_workers that are loaded ahead", type = "integer", min = 1}),
  on_data_error = field("raise", {help = "What a sample that cannot be loaded does: end the run, or be left out", choices = {"raise", "skip"}}),
  max_epochs = field(nil, {help = "Stop after so many passes over the training data", type = "integer", min = 0}),
  max_steps = field(nil, {help = "Stop after so many optimizer steps", type = "integer", min = 0}),
  max_samples = field(nil, {help = "Stop after so many training samples", type = "integer", min = 0}),
  max_seconds = field(nil, {help = "Stop after so many seconds of training", type = "number", min = 0}),
  valid_every_n_steps = field(nil, {help = "Validate after so many steps; else after each epoch", type = "integer", min = 1}),
  valid_every_n_seconds = field(nil, {help = "Validate after so many seconds too", type = "number", min = 0}),
  valid_on_first_step = field(false, {help = "Validate before the first step too"}),
  batches_per_step = field(1, {help = "Batches whose gradients are averaged, by samples, in one optimizer step", type = "integer", min = 1}),
  chunks_per_batch = field(1, {help = "Parts in which a batch is computed, to save memory", type = "integer", min = 1}),
  clip_grad_value = field(0.0, {help = "Largest size of an element of a gradient; 0 leaves them as they are", min = 0}),
  clip_grad_norm = field(10.0, {help = "Largest norm of all gradients together; 0 leaves them as they are", min = 0}),
  precision = field("f32", {help = "Of matrix products and convolutions in get_loss; f16 scales the loss", choices = {"f32", "bf16", "f16"}}),
  grad_scaler = {
    init_scale = field(65536.0, {help = "First factor of the loss with precision f16", min = 0}),
    growth_factor = field(2.0, {help = "Factor of the scale after growth_interval good steps", min = 1}),
    backoff_factor = field(0.5, {help = "Factor of the scale after a step with gradients that are not finite", min = 0, max = 1}),
    growth_interval = field(2000, {help = "Good steps before the scale grows", type = "integer", min = 1}),
  },
  nonfinite = field("raise", {help = "What a loss or gradient that is NaN or infinite does: end the run, leave the step out, or go back",
    choices = {"raise", "skip", "rollback"}}),
  snapshot_every_n_steps = field(nil, {help = "With rollback: copy the weights in memory so often; else go back to a checkpoint",
    type = "integer", min = 1}),
  ema = field(0.0, {help = "Decay of a moving average of the weights, which is validated and saved; 0: none", min = 0, max = 1}),
  early_stopping = {
    patience = field(0, {help = "Stop after so many validations without a better value; 0: never", type = "integer", min = 0}),
    metric = field("loss", {help = "Value of the validation that counts"}),
    mode = field("min", {help = "Whether less or more of it is better", choices = {"min", "max"}}),
    min_delta = field(0.0, {help = "Least change that counts as better", min = 0}),
  },
  deterministic = field(true, {help = "Choose nothing by timing, so that a resumed run agrees to the bit with one that was not stopped"}),
  profile = field(false, {help = "Tell where the time of steps 6 to 55 goes, by phase and by op; a trace is written to profile.json"}),
  seed = field(1337, {help = "Seed of parameters, dropout and shuffling", type = "integer", min = 0}),
  device = field("cpu", {help = "Where the model is trained: cpu, cuda:0"}),
  run_dir = field(nil, {help = "Folder of the numbered runs; else $RUN_DIR, else ./runs", type = "string"}),
  exp_dir = field(nil, {help = "Folder of this run; one that holds a checkpoint is resumed", type = "string"}),
  save_every_n_steps = field(nil, {help = "Steps between checkpoints", type = "integer", min = 1}),
  keep_last = field(2, {help = "Newest checkpoints that are kept", type = "integer", min = 1}),
  keep_best = field(0, {help = "Best checkpoints that are kept beside the newest, by best_metric", type = "integer", min = 0}),
  best_metric = field("loss", {help = "Value of the last validation by which a checkpoint is good"}),
  best_mode = field("min", {help = "Whether less or more of best_metric is better", choices = {"min", "max"}}),
  save_every_n_seconds = field(3600, {help = "Seconds between checkpoints; one is always saved at the end", min = 0}),
  optim = {
    name = field("adamw", {help = "Optimizer of a task that does not build its own", choices = {
      "adamw", "adam", "sgd", "lion", "adan", "rmsprop", "adagrad", "adadelta", "adamax", "nadam", "radam", "lamb", "muon", "schedule_free",
    }}),
    lr = field(1e-3, {help = "Learning rate of a task that does not build its own optimizer", min = 0}),
    weight_decay = field(1e-2, {help = "Weight decay of a task that does not build its own optimizer", min = 0}),
  },
}
