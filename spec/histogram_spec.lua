--- Histograms: what lies on an edge, outside or nowhere, weights and densities, and several variables.

local ai = require "aijit"
local like = require "spec.support.like"
local _ = like

local function list(x) return x:totable() end
local function fails(fn, words) assert.has_error_like(fn, words) end
local x = ai.tensor {0, 0.5, 1, 1, 2, 3, 4, 5}

describe("histogram", function()
  it("counts what lies in equal bins of a range; the last holds its upper edge", function()
    local hist, edges = x:histogram(4, {0, 4})
    assert.are.same({2, 2, 1, 2}, list(hist))
    assert.are.same({0, 1, 2, 3, 4}, list(edges))
    hist, edges = x:histogram(5)
    assert.are.same({2, 2, 1, 1, 2}, list(hist))
    assert.are.same({0, 1, 2, 3, 4, 5}, list(edges))
    assert.are.same({0, 1}, list((select(2, ai.zeros(0):histogram(1)))))
    assert.are.same({0, 3}, list((ai.full({3}, 2):histogram(2))))
  end)
  it("takes edges, and counts neither what lies outside nor NaN", function()
    local hist = ai.tensor({-1, 1, 2, 7, 0 / 0, math.huge}):histogram(ai.tensor {0, 2, 7})
    assert.are.same({1, 2}, list(hist))
  end)
  it("sums weights, and makes the area 1", function()
    local points = ai.tensor {0, 1, 1}
    assert.are.same({1, 5}, list((points:histogram(ai.tensor {0, 1, 3}, {weight = ai.tensor {1, 2, 3}}))))
    local hist, edges = points:histogram {bins = ai.tensor {0, 1, 3}, density = true}
    assert.is_near(1, (hist * edges:diff()):sum():item(), 1e-6)
  end)
  it("refuses integers, edges and ranges that are none", function()
    fails(function() x:long():histogram(3) end, "floats")
    fails(function() x:histogram(0) end, "whole number from 1")
    fails(function() x:histogram(2.5) end, "whole number from 1")
    fails(function() x:histogram(2, {3, 1}) end, "not backwards")
    fails(function() x:histogram(2, {3}) end, "low, high")
    fails(function() x:histogram(ai.tensor {1}) end, "at least 2")
    fails(function() x:histogram(ai.tensor({1, 2}, {dtype = "f64"})) end, "f64")
    fails(function() x:histogram(2, {weight = ai.ones(3)}) end, "weight has the sizes {3}")
    fails(function() x:histogram(2, {wight = ai.ones(3)}) end, "unknown option")
    fails(function() x:histogram "two" end, "number of bins")
  end)
end)

describe("histogramdd", function()
  local points = ai.tensor {{0, 1}, {1, 0}, {2, 0}, {2, 2}}
  it("counts points in boxes", function()
    local hist, edges = ai.f.histogramdd(points, {3, 3})
    assert.are.same({{0, 1, 0}, {1, 0, 0}, {1, 0, 1}}, list(hist))
    assert.are.equal(2, #edges)
    assert.are.same(list(hist), list((ai.f.histogramdd(points, 3))))
    assert.are.same({{2}, {2}}, list((ai.f.histogramdd(points, {ai.tensor {0, 2, 2.5}, ai.tensor {0, 5}}))))
    assert.are.same({{1, 0}, {1, 0}}, list((ai.f.histogramdd(points, {2, 2}, {0.5, 2.5, 0, 1}, nil, false))))
  end)
  it("makes the volume 1", function()
    local hist = ai.f.histogramdd(points, {2, 4}, {density = true})
    assert.is_near(1, hist:sum():item() * 1 * 0.5, 1e-6)
  end)
  it("refuses bins, ranges and points of other dimensions", function()
    fails(function() ai.f.histogramdd(points, {3}) end, "1 entries of bins for points of 2 dimensions")
    fails(function() ai.f.histogramdd(points, 3, {0, 1}) end, "for each of 2 dimensions")
    fails(function() ai.f.histogramdd(x, 3) end, "at least 2 dimensions")
    fails(function() ai.f.histogramdd(points, 3, {weight = ai.ones(2)}) end, "sizes {2}")
  end)
end)
