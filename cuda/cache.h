// cache.h - what was found out at some cost, and is kept on disk for the next process: choices by timing, compiled kernels.
//
// AIJIT_CACHE_DIR   the folder instead of $XDG_CACHE_HOME/aijit, ~/.cache/aijit; empty: nothing is kept
#pragma once
#include <mutex>
#include <string>
#include <unordered_map>

namespace cuda {

// ".../aijit/cuda", which is made; "" where nothing is to be kept, or can be. What is in it may be removed at any time.
std::string cache_folder();

// Which way was the quickest, by a name of what was done: lines of "name<TAB>value" in one file, which processes add to side by
// side. The file's name tells of all that the choice depends on besides: the library's version, the device.
class choices {
  public:
    explicit choices(const std::string &file);           // "cublaslt-13.0.0-nvidia-h200"; other characters than [a-z0-9.-] become "-"
    bool find(const std::string &name, std::string *value);
    void keep(const std::string &name, const std::string &value);      // for this process also where it cannot be written

  private:
    std::mutex lock;
    std::string path;
    std::unordered_map<std::string, std::string> known;
};

}
