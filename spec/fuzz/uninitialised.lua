--- Every row of the op table on its sample, forward and backward, in f64, f32 and bf16, on dense and on sliced inputs: no
-- element of a result or of a gradient is left unwritten, and (which valgrind reports by itself) nothing unwritten is acted upon.

local ai = require "aijit"
local ffi = require "ffi"
local lib = require "aijit.bindings.lib"
local op = require "aijit.bindings.op"
local root = debug.getinfo(1, "S").source:match "^@(.*)spec/fuzz/[^/]*$" or ""
package.path = root .. "?.lua;" .. package.path
local sample = require "spec.support.sample"

local only = {}
for i = 2, #arg do only[arg[i]] = true end
ffi.cdef [[ int is_watched(void); long undefined_at(const void *p, size_t n); ]]
local watch = ffi.load(arg[1])
if watch.is_watched() == 0 then io.stderr:write "not under valgrind: nothing would be found\n" os.exit(2) end

local bad, checked = 0, 0
local function check(what, t)
  if not ai.is_tensor(t) or t:numel() == 0 then return end
  checked = checked + 1
  local x = t:detach()
  if not x:is_contiguous() then return end               -- a view: what it is of was checked
  local at = tonumber(watch.undefined_at(lib.C.aj_data(x), x:numel() * x:element_size()))
  if at >= 0 then
    bad = bad + 1
    io.stderr:write(("%s: element %d of %d was never written\n"):format(what, math.floor(at / x:element_size()) + 1, x:numel()))
  end
end

for _, row in ipairs(op.rows) do
  if next(only) == nil or only[row.name] then
    for _, dtype in ipairs {"f64", "f32", "bf16"} do
      for _, layout in ipairs {"contiguous", "sliced"} do
        local what = ("%s, %s, %s"):format(row.name, dtype, layout)
        if os.getenv "AIJIT_VERBOSE" then io.stderr:write(what, "\n") end
        ai.scope(function()
          sample.seed(row.index + 1)
          local xs = {}
          local ok, args, n = pcall(sample.arguments, row, function(input)
            local t = sample.tensor(input, dtype, layout ~= "contiguous" and layout or nil):detach()
            if sample.is_differentiable(input) and row.kind ~= "UPDATE" and t:is_floating_point() then xs[#xs + 1] = t:requires_grad_() end
            return t
          end)
          if not ok then return end
          local results = {pcall(ai.f[row.name], unpack(args, 1, n))}
          if not results[1] then return end              -- a dtype or a layout that it does not take
          local sum
          for i = 2, #results do
            local y = results[i]
            check(("%s: result %d"):format(what, i - 1), y)
            if ai.is_tensor(y) and y.requires_grad then sum = sum and sum + y:float():sum() or y:float():sum() end
          end
          if sum and #xs > 0 then
            local fine, grads = pcall(ai.grad, sum, xs, {allow_unused = true})
            for i, g in ipairs(fine and grads or {}) do if g then check(("%s: gradient %d"):format(what, i), g) end end
          end
        end)
      end
    end
  end
end
print(("%d tensors checked, %d of them not wholly written"):format(checked, bad))
os.exit(bad == 0)
