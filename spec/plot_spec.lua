local ai = require "aijit"
local cli = require "aijit.cli.plot"
local data = require "aijit.plot.data"
local process = require "support.process"
local scale = require "aijit.plot.scale"

local plot = ai.plot

local function raises(text, f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  assert(tostring(message):find(text, 1, true), ("'%s' is not in: %s"):format(text, tostring(message)))
end

local folder
before_each(function() folder = process.folder() end)
after_each(function() os.execute("rm -r " .. folder) end)

local function log_of(name, steps, value)
  local logger = ai.log.Jsonl(folder .. "/" .. name, {interval = 0})
  for step = 1, steps do
    for _, phase in ipairs{"train", "valid"} do
      logger:write{time = 100 + step / 2, step = step, epoch = 1, samples = step, phase = phase, texts = {}, histograms = {},
        scalars = {{"loss", value(step)}, phase == "train" and {"lr", 0.1} or {"accuracy", 1}}}
    end
  end
  logger:stop()
  return folder .. "/" .. name
end

local function labels(s)
  local list = {}
  for i, tick in ipairs(s.ticks) do list[i] = tick[2] end
  return list
end

describe("an axis", function()
  it("has ticks at round values, with as many decimals as they need", function()
    assert.same({"0", "0.2", "0.4", "0.6", "0.8", "1.0"}, labels(scale.of(0, 1, {count = 5})))
    assert.same({"0", "5k", "10k", "15k", "20k"}, labels(scale.of(0, 20000, {count = 4})))
    assert.same({"1000", "1500", "2000"}, labels(scale.of(900, 2100, {count = 3})))
    assert.same({"1.000", "1.002", "1.004"}, labels(scale.of(1, 1.004, {count = 2})))
    assert.same({"-1e-5", "0", "1e-5"}, labels(scale.of(-1e-5, 1e-5, {count = 2})))
  end)

  it("of logarithms has powers of ten, or what lies between few", function()
    assert.same({"1e-5", "1e-4", "0.001", "0.01", "0.1"}, labels(scale.of(1e-5, 0.1, {log = true, count = 6})))
    assert.same({"2", "3", "4"}, labels(scale.of(1.5, 4.5, {log = true, count = 3})))
    local s = scale.of(1, 100, {log = true})
    assert.near(0.5, s.place(10), 1e-12)
    assert.equal(-math.huge, s.place(0))
  end)

  it("of one value has room around it", function()
    for _, value in ipairs{0, 3, -2e-8, 1e20} do
      local s = scale.of(value, value, {})
      assert.near(0.5, s.place(value), 1e-6)
      assert.is_true(#s.ticks > 0)
    end
  end)
end)

describe("a run's log", function()
  it("is read by name, with steps, times and epochs; torn lines are left out", function()
    local dir = log_of("a", 3, function(step) return step == 2 and 0 / 0 or step end)
    local file = assert(io.open(dir .. "/log.jsonl", "a"))
    file:write '{"step":4,"phase":"train","train/lo'
    file:close()
    local series = plot.read(dir)
    assert.same({1, 2, 3}, series["train/loss"].step)
    assert.same({0, 0.5, 1}, series["train/loss"].time)
    assert.equal(3, series["train/loss"].value[3])
    assert.is_true(series["valid/loss"].value[2] ~= series["valid/loss"].value[2])
    assert.is_nil(series.step)
  end)

  it("of log.log_value is read too", function()
    local file = assert(io.open(folder .. "/log.jsonl", "w"))
    file:write '{"t":1.5,"name":"score","value":3,"primary":true}\n{"t":2.5,"name":"score","value":"Infinity","primary":true}\n'
    file:close()
    local series = plot.read(folder)
    assert.same({3, math.huge}, series.score.value)
    assert.same({0, 1}, series.score.time)
  end)

  it("becomes a panel a name, both phases in it, the loss first", function()
    local panels = plot(log_of("a", 3, function(s) return s end)).panels
    local titles = {}
    for i, panel in ipairs(panels) do titles[i] = panel.title end
    assert.same({"loss", "accuracy", "lr"}, titles)
    assert.same({"train", "valid"}, {panels[1].curves[1].label, panels[1].curves[2].label})
  end)

  it("is chosen by names, of several runs together", function()
    local a, b = log_of("a", 3, math.sqrt), log_of("b", 3, math.sqrt)
    local panels = plot({a, b}, {names = {"train/l*"}, x = "time"}).panels
    assert.equal(2, #panels)
    assert.equal(2, #panels[1].curves)
    assert.matches("/b train$", panels[1].curves[2].label)
    assert.same({0, 0.5, 1}, panels[1].curves[1].x)
    raises("there are no numbers of these names", plot, a, {names = {"nothing"}})
  end)

  it("that is missing is named", function() raises("there is no log '" .. folder .. "/log.jsonl'", plot, folder) end)
end)

describe("smoothing", function()
  it("begins at the first value and passes over what is not finite", function()
    local y = data.smooth({1, 3, 0 / 0, 3}, 0.5)
    assert.equal(1, y[1])
    assert.near(7 / 3, y[2], 1e-12)
    assert.is_true(y[3] ~= y[3])
    assert.near(2.714285714, y[4], 1e-6)
  end)
end)

-- How many of a picture's dots are nearer to a colour than to the background.
local function count(image, r, g, b)
  local x = image:to "i64"
  local color = ai.tensor({r, g, b}, {dtype = "i64"})
  return (x - color):abs():amax(3):lt(40):sum():item()
end

describe("a picture", function()
  it("has the line where its values are, smooth at its edges", function()
    local image = plot({a = {x = {0, 10}, y = {1, 1}}}, {width = 400, height = 300}):image()
    assert.same({300, 400, 3}, {image:size(1), image:size(2), image:size(3)})
    local rows = (image:to "i64" - ai.tensor({31, 119, 180}, {dtype = "i64"})):abs():amax(3):lt(40):sum(2):tolist()
    local drawn = {}
    for y, n in ipairs(rows) do if n > 200 then drawn[#drawn + 1] = y end end
    assert.is_true(#drawn >= 1 and #drawn <= 3)
    local middle = (300 + 34 - 50) / 2
    assert.is_true(math.abs(drawn[1] - middle) < 6, tostring(drawn[1]))
  end)

  it("has a colour a run and a legend with the names", function()
    local runs = {log_of("a", 50, function(s) return 1 / s end), log_of("b", 50, function(s) return 2 / s end)}
    local image = plot(runs, {names = {"loss"}}):image()
    assert.is_true(count(image, 31, 119, 180) > 300)
    assert.is_true(count(image, 255, 127, 14) > 300)
    assert.is_true(count(image, 50, 50, 50) > 100)          -- the letters of the legend and the title
  end)

  it("leaves gaps where values are not finite, and draws a lonely point", function()
    local whole = count(plot({a = {1, 1, 1, 1, 1, 1}}, {width = 400, height = 300}):image(), 31, 119, 180)
    local parted = count(plot({a = {1, 1, 0 / 0, 1 / 0, 1, 1}}, {width = 400, height = 300}):image(), 31, 119, 180)
    assert.is_true(parted < whole * 0.7 and parted > whole * 0.2)
    assert.is_true(count(plot({a = {1}}, {width = 400, height = 300}):image(), 31, 119, 180) > 5)
    assert.equal(0, count(plot({a = {0 / 0}}, {width = 400, height = 300}):image(), 31, 119, 180))
  end)

  it("of a hundred thousand values keeps the peaks", function()
    local y = {}
    for i = 1, 100000 do y[i] = i == 50000 and 1 or 0 end
    local image = plot({a = y}, {width = 400, height = 300}):image()
    local top = image[{{30, 60}, {}, {}}]
    assert.is_true(count(top, 31, 119, 180) > 10)
  end)

  it("shows points for hyper-parameters", function()
    local figure = plot.scatter({adam = {x = {1e-4, 1e-3, 1e-2}, y = {0.5, 0.9, 0.7}}}, {log_x = true, title = "accuracy", width = 400, height = 300})
    local n = count(figure:image(), 87, 153, 199)          -- drawn at three quarters of the colour
    assert.is_true(n > 3 * 20 and n < 4 * 100, tostring(n))
  end)

  it("is saved as PNG", function()
    plot({1, 2, 3}, {width = 200, height = 150}):save(folder .. "/x.png")
    assert.same({150, 200, 3}, {ai.load(folder .. "/x.png"):size(1), ai.load(folder .. "/x.png"):size(2), 3})
  end)
end)

describe("a plot in the terminal", function()
  it("is drawn with braille, ticks at the left and below", function()
    local text = plot({1, 2, 3}):text{width = 24, height = 4}
    local lines = {}
    for line in text:gmatch "[^\n]+" do lines[#lines + 1] = line end
    assert.matches("^3 ┤ +⢀⣀⠤⠒⠉$", lines[1])
    assert.matches("^1 ┤⣀⠤⠔⠒⠉⠁$", lines[4])
    assert.equal("  └┬────────┬─────────┬", lines[5])
    assert.matches("^ +1 +2 +3$", lines[6])
    assert.matches("value %(3%)", lines[7])
    for _, line in ipairs(lines) do
      local _, letters = line:gsub("[%z\1-\127\194-\244]", "")
      assert.is_true(letters <= 24, line)
    end
  end)

  it("has colours only when they are wanted, and says so when there is nothing to see", function()
    assert.is_nil(plot({1, 2}):text():find "\27")
    assert.matches("\27%[34m", plot({1, 2}):text{color = true})
    assert.matches("no finite values", plot({0 / 0}):text())
  end)
end)

describe("plot", function()
  it("refuses what it cannot draw", function()
    raises("plot: no option 'smoth'; did you mean 'smooth'?", plot, {1, 2}, {smoth = 1})
    raises("smooth must be from 0 to below 1, not 1", plot, {1, 2}, {smooth = 1})
    raises('x must be "step", "time" or "epoch", not loss', plot, {1, 2}, {x = "loss"})
    raises("width must be a whole number from 100 to 10000, not 5", plot, {1, 2}, {width = 5})
    raises("a has 2 places and 1 values", plot, {a = {x = {1, 2}, y = {1}}})
    raises("its value 2 is x, not a number", plot, {a = {1, "x"}})
    raises("is wanted, not 3", plot, 3)
  end)

  it("shows what a learning-rate range test found", function()
    local w = ai.tensor({1.0}, {requires_grad = true})
    local result = ai.optim.range_test(function() return (w * w):sum() end, {optimizer = ai.optim.SGD({w}, {lr = 0.1}), steps = 20})
    local panel = result:plot().panels[1]
    assert.same({"loss", "smoothed"}, {panel.curves[1].label, panel.curves[2].label})
    assert.equal(#result.lr, #panel.curves[1].x)
  end)

  it("takes tensors", function() assert.same({1, 2, 3}, plot(ai.tensor{1, 2, 3}).panels[1].curves[1].y) end)
end)

describe("aijit plot", function()
  local function run(...)
    local out, stdout, stderr = {}, io.stdout, io.stderr
    local sink = {write = function(_, ...) for _, text in ipairs{...} do out[#out + 1] = text end end, flush = function() end}
    local old = print
    rawset(io, "stdout", sink)
    rawset(io, "stderr", sink)
    rawset(_G, "print", function(text) out[#out + 1] = text .. "\n" end)
    local ok, status = pcall(cli.run, ...)
    rawset(io, "stdout", stdout)
    rawset(io, "stderr", stderr)
    rawset(_G, "print", old)
    assert(ok, status)
    return status, table.concat(out)
  end

  it("draws in the terminal, or into a picture", function()
    local dir = log_of("a", 20, math.sqrt)
    local status, text = run(dir, "-n", "loss", "--width", "40", "--height", "5")
    assert.equal(0, status)
    assert.matches("^loss\n", text)
    local path = folder .. "/loss.png"
    assert.same({0, path .. "\n"}, {run(dir, "--out", path, "-s", "0.5", "--log-y")})
    assert.equal("u8", ai.load(path).dtype)
  end)

  it("ends with 1 and a sentence when it cannot", function()
    assert.same({1, "aijit plot: there is no log '/no/such/log.jsonl': a run's folder has it when its loggers have ai.log.Jsonl\n"}, {run "/no/such"})
    local status, text = run("--wat")
    assert.equal(1, status)
    assert.matches("there is no option %-%-wat", text)
    assert.equal(1, (run()))
    assert.equal(0, (run "--help"))
  end)
end)
