--- What a task logs beside numbers, texts and images; `aijit.log.media` says what each takes. A function is called only when a
-- logger that can show the value is due.

local methods = {}

--- Logs the distribution of a tensor's values.
---@param name string
---@param value any a tensor, a list of numbers, or a function that gives one
---@param o? {bins?: integer} 64
function methods:log_histogram(name, value, o) self.board:histogram(name, value, o and o.bins) end

--- Logs a sound: (T), (C, T) or (T, C), floats from -1 to 1, or i16.
---@param name string
---@param value any a tensor, or a function that gives it
---@param o {sample_rate: integer} samples a second
function methods:log_audio(name, value, o)
  if type(o) ~= "table" or not o.sample_rate then error("log_audio: say how fast it is: {sample_rate = 16000}", 2) end
  self.board:audio(name, value, o.sample_rate)
end

--- Logs a sound's frequencies over time, as an image.
---@param name string
---@param value any as for log_audio
---@param o? {n_fft?: integer, hop?: integer, max_frames?: integer}
function methods:log_spectrogram(name, value, o)
  self.board:image(name, function()
    local sound = value
    if type(sound) == "function" then sound = sound() end
    return {require("aijit.log.media").spectrogram(sound, o)}
  end)
end

--- Logs a video: (T, H, W), (T, C, H, W) or (T, H, W, C), or a list of images.
---@param name string
---@param value any tensor, list, or a function that gives it
---@param o? {fps?: number} 12
function methods:log_video(name, value, o) self.board:video(name, value, o and o.fps) end

--- Logs points in space, (N, 3), with colours (N, 3) and triangles (M, 3) of points counted from 1 where they are given.
---@param name string
---@param vertices any tensor, or a function that gives it
---@param o? {colors?: any, faces?: any, max_points?: integer}
function methods:log_mesh(name, vertices, o) self.board:mesh(name, vertices, o) end

--- Logs points in space; at most `max_points` of them.
methods.log_point_cloud = methods.log_mesh

--- Logs hyper-parameters that are not the config's, which are logged without this.
---@param values table of numbers, booleans, texts, and tables of these
---@param metrics? string[] the numbers by which runs are compared
function methods:log_hparams(values, metrics) self.board:hparams(values, metrics, getmetatable(self).__name) end

--- Logs the graph of a model, which is called once.
---@param model aijit.nn.Module
---@param ... any an example of its inputs
function methods:log_graph(model, ...) self.board:graph(model, ...) end

return methods
