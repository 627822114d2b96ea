--- A small grammar of English that writes the tagger's text: `aijit examples/tagger/grammar.lua > examples/tagger/sentences.txt`.
--- Many of its words are of several parts of speech, so that a word alone does not tell which one it is.

local function words(text)
  local list = {}
  for word in text:gmatch "%S+" do list[#list + 1] = word end
  return list
end

local lexicon = {
  DET  = words "the the the a a that this every some her his",
  PRON = words "she he it they we her him that this everyone",
  NAME = words "anna rose will mark grace jack may",
  NOUN = words "light watch plant ship park saw rose match play book fish duck fly bear train can will back cold round river city",
  VERB = words "light watch plant ship saw match play book fish duck bear train back answers finds likes sees leaves rose flies",
  ADJ  = words "light cold round back clean open dry long early green",
  ADV  = words "back early long there often round up down",
  AUX  = words "can will may must could",
  PREP = words "in by near round up down like with over",
  CONJ = words "and but or while that",
  NUM  = words "two three seven forty",
}

local random = math.random
local function chance(p) return random() < p end

local function sentence()
  local out = {}
  local function put(tag) out[#out + 1] = lexicon[tag][random(#lexicon[tag])] .. "/" .. tag end
  local noun_phrase, clause
  local function prepositional() put "PREP" noun_phrase(true) end
  function noun_phrase(short)
    if chance(0.2) then return put "PRON" end
    if chance(0.15) then return put "NAME" end
    if chance(0.15) then put "NUM" else put "DET" end
    if chance(0.35) then put "ADJ" end
    if chance(0.1) then put "NOUN" end                       -- "the park light"
    put "NOUN"
    if not short and chance(0.2) then prepositional() end
  end
  function clause(depth)
    noun_phrase()
    if chance(0.15) then put "ADV" end
    if chance(0.3) then put "AUX" end
    put "VERB"
    if chance(0.7) then noun_phrase() end
    if chance(0.3) then put "ADV" end
    if chance(0.3) then prepositional() end
    if depth < 2 and chance(0.2) then put "CONJ" clause(depth + 1) end
  end
  clause(1)
  return table.concat(out, " ") .. " ./PUNCT"
end

math.randomseed(7)
local seen, count = {}, 0
while count < 3000 do
  local text = sentence()
  if not seen[text] then
    seen[text], count = true, count + 1
    print(text)
  end
end
