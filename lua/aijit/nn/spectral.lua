--- Losses of pictures and of sounds: structural similarity, gradients of pictures, spectra, mel spectra.

local ai = require "aijit"
local layer = require "aijit.nn.layer".layer
local raise = require("aijit.bindings.lib").raise

local f = ai.f
local nn = {}

local function pair(self, x, y, least)
  local a, b = x:size(), y:size()
  if #a < least or table.concat(a, ", ") ~= table.concat(b, ", ") then
    raise(("%s: (%s) and (%s): both must have the same sizes, of %d dimensions or more"):format(self:summary(), table.concat(a, ", "),
      table.concat(b, ", "), least))
  end
end

--- 1 - SSIM of pictures (N, C, H, W): means, variances and covariance under a normal window (Wang and others, "Image Quality
-- Assessment: From Error Visibility to Structural Similarity", 2004, eq. 13). data_range: the span of the values.
---@class aijit.nn.SSIMLoss: aijit.nn.Layer
local SSIMLoss = layer("SSIMLoss", "window_size=11 sigma=1.5 data_range=1 k1=0.01 k2=0.03")
nn.SSIMLoss = SSIMLoss
SSIMLoss.argument_rules = {window_size = "count", sigma = "positive", data_range = "positive", k1 = "positive", k2 = "positive"}

function SSIMLoss:forward(x, y)
  pair(self, x, y, 4)
  local n, channels = self.window_size, x:size(2)
  local at = ai.arange(0, n - 1, 1, {dtype = x.dtype}) - (n - 1) / 2
  local line = (at * at / (-2 * self.sigma ^ 2)):exp()
  line = line / line:sum()
  local window = (line:unsqueeze(2) * line):expand(channels, 1, n, n)
  local function mean(t) return f.conv2d(t, window, nil, {groups = channels}) end
  local mx, my = mean(x), mean(y)
  local vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
  local c1, c2 = (self.k1 * self.data_range) ^ 2, (self.k2 * self.data_range) ^ 2
  return 1 - ((2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))):mean()
end

--- The mean distance of the differences of neighbours, along the last two dimensions of pictures (..., H, W).
---@class aijit.nn.ImageGradLoss: aijit.nn.Layer
local ImageGradLoss = layer("ImageGradLoss", "")
nn.ImageGradLoss = ImageGradLoss

function ImageGradLoss:forward(x, y)
  pair(self, x, y, 2)
  local d, loss = x - y, 0
  for dim = -2, -1 do
    local n = d:size(dim)
    loss = loss + (f.narrow(d, dim, 2, n - 1) - f.narrow(d, dim, 1, n - 1)):abs():mean()
  end
  return loss
end

--- Sizes of the spectrum's bins of sounds (N, samples): (N, frequencies, frames). Never 0, where a size has no gradient.
local function magnitude(x, n_fft, hop, win, window)
  local s = f.stft(x, n_fft, hop, win, window)
  return (s * s):sum(-1):clamp(1e-7):sqrt()
end

--- Spectral convergence and the distance of the logarithms of spectra, of sounds (N, samples) (Yamamoto and others, "Parallel
-- WaveGAN", 2020, eq. 4 and 5): ||Y - X|| / ||Y|| + mean |log Y - log X|. win_length 0: n_fft.
---@class aijit.nn.STFTLoss: aijit.nn.Layer
local STFTLoss = layer("STFTLoss", "n_fft=1024 hop_length=120 win_length=600")
nn.STFTLoss = STFTLoss
STFTLoss.argument_rules = {n_fft = "count", hop_length = "count", win_length = "count"}

local function stft_loss(self, x, y, n_fft, hop, win)
  pair(self, x, y, 2)
  local window = ai.hann_window(win, {dtype = x.dtype})
  local a, b = magnitude(x, n_fft, hop, win, window), magnitude(y, n_fft, hop, win, window)
  return (b - a):norm() / b:norm() + (b:log() - a:log()):abs():mean()
end

function STFTLoss:forward(x, y) return stft_loss(self, x, y, self.n_fft, self.hop_length, self.win_length) end

--- The mean of STFTLoss at several resolutions: {n_fft, hop, window} each; by default those of Parallel WaveGAN.
---@class aijit.nn.MultiResolutionSTFTLoss: aijit.nn.Layer
local MultiResolutionSTFTLoss = layer("MultiResolutionSTFTLoss", "resolutions=none")
nn.MultiResolutionSTFTLoss = MultiResolutionSTFTLoss
MultiResolutionSTFTLoss.argument_rules = {resolutions = "names"}

function MultiResolutionSTFTLoss:forward(x, y)
  local loss, list = 0, self.resolutions or {{1024, 120, 600}, {2048, 240, 1200}, {512, 50, 240}}
  for _, r in ipairs(list) do loss = loss + stft_loss(self, x, y, r[1], r[2], r[3]) end
  return loss / #list
end

--- The triangles (n_mels, n_fft / 2 + 1) of a mel filter bank: 2595 log10(1 + hz / 700), evenly spaced up to half the rate.
local function mel_bank(n_mels, n_fft, rate, like)
  local function hz(mel) return 700 * (10 ^ (mel / 2595) - 1) end
  local top = 2595 * math.log10(1 + rate / 2 / 700)
  local bins = ai.arange(0, math.floor(n_fft / 2), 1, {dtype = like.dtype}) * (rate / n_fft)
  local rows = {}
  for i = 1, n_mels do
    local low, mid, high = hz(top * (i - 1) / (n_mels + 1)), hz(top * i / (n_mels + 1)), hz(top * (i + 1) / (n_mels + 1))
    rows[i] = f.minimum((bins - low) / (mid - low), (high - bins) / (high - mid)):clamp(0)
  end
  return f.stack(rows, 1)
end

local function log_mel(self, x)
  local s = magnitude(x, self.n_fft, self.hop_length, self.win_length, ai.hann_window(self.win_length, {dtype = x.dtype}))
  return mel_bank(self.n_mels, self.n_fft, self.sample_rate, x):matmul(s):clamp(1e-5):log()
end

local mel_rules = {sample_rate = "count", n_fft = "count", hop_length = "count", win_length = "count", n_mels = "count", n_mfcc = "count"}

--- The mean distance of the logarithms of mel spectra of sounds (N, samples).
---@class aijit.nn.MelLoss: aijit.nn.Layer
local MelLoss = layer("MelLoss", "sample_rate=16000 n_fft=1024 hop_length=256 win_length=1024 n_mels=80")
nn.MelLoss = MelLoss
MelLoss.argument_rules = mel_rules

function MelLoss:forward(x, y)
  pair(self, x, y, 2)
  return (log_mel(self, x) - log_mel(self, y)):abs():mean()
end

--- The mean distance of mel-frequency cepstral coefficients: the cosine transform (type 2, orthonormal) of log mel spectra.
---@class aijit.nn.MFCCLoss: aijit.nn.Layer
local MFCCLoss = layer("MFCCLoss", "sample_rate=16000 n_fft=1024 hop_length=256 win_length=1024 n_mels=40 n_mfcc=13")
nn.MFCCLoss = MFCCLoss
MFCCLoss.argument_rules = mel_rules

function MFCCLoss:forward(x, y)
  pair(self, x, y, 2)
  local n, k = self.n_mels, self.n_mfcc
  if k > n then raise(("%s: n_mfcc is %d, more than the %d mel bands"):format(self:summary(), k, n)) end
  local at = ai.arange(0, n - 1, 1, {dtype = x.dtype}) + 0.5
  local rows = {}
  for i = 1, k do rows[i] = (at * (math.pi / n * (i - 1))):cos() * math.sqrt((i == 1 and 1 or 2) / n) end
  local basis = f.stack(rows, 1)
  return (basis:matmul(log_mel(self, x)) - basis:matmul(log_mel(self, y))):abs():mean()
end

return nn
