// library.cpp - how the libraries of library.h are found.
#include "blas.h"
#include "dnn.h"
#include "rtc.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>

namespace cuda {

namespace {
std::vector<library *> &all() { static std::vector<library *> list; return list; }

// Where to look, in order. AJ_CUDA_LIBRARIES is the build's list: its toolkit's folder, then the system's search.
std::vector<std::string> folders() {
    const char *named = getenv("AIJIT_CUDA_LIBRARIES");
    std::string list = named ? named : AJ_CUDA_LIBRARIES;
    std::vector<std::string> out;
    for (size_t start = 0, end; start <= list.size(); start = end + 1) {
        end = list.find(':', start);
        if (end == std::string::npos) end = list.size();
        out.push_back(list.substr(start, end - start));
    }
    return out;
}
}

library::library(const char *its_name, std::initializer_list<const char *> its_sonames, const char *to_install, const char *goes_without)
    : name(its_name), sonames(its_sonames), install(to_install), without(goes_without) { all().push_back(this); }

library *library::at(int i) { return i >= 0 && i < (int)all().size() ? all()[(size_t)i] : nullptr; }

void library::number(char *to, size_t size, int major, int minor, int patch) { snprintf(to, size, "%d.%d.%d", major, minor, patch); }

// A library without one of its symbols is another version, and is as good as absent.
bool library::take(const std::string &file) {
    void *handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    std::string why;
    if (!handle) why = dlerror();
    for (auto &s : symbols) {
        if (!handle || !why.empty()) break;
        *s.second = dlsym(handle, s.first);
        if (!*s.second) why = file + ": it has no " + s.first;
    }
    if (why.empty()) {
        Dl_info in;
        path = !symbols.empty() && dladdr(*symbols[0].second, &in) ? in.dli_fname : file;
        return true;
    }
    if (handle) dlclose(handle);
    if (!tried.empty()) tried += "; ";
    tried += why;
    return false;
}

void library::find() {
    for (const std::string &folder : folders())
        for (const char *soname : sonames)
            if ((found = take(folder.empty() ? std::string(soname) : folder + "/" + soname))) return;
}

bool library::here() {
    std::call_once(once, [this] { find(); });
    return found;
}

bool library::need(const char *who) {
    return here() || aj_error("%s needs %s, which was not found (%s); install %s, or name its folder in AIJIT_CUDA_LIBRARIES; without it %s", who, name, tried.c_str(), install, without);
}

bool library::describe(aj_device_library_t *out) {
    snprintf(out->name, sizeof out->name, "%s", name);
    if (here()) {
        tell_version(out->version, sizeof out->version);
        snprintf(out->path, sizeof out->path, "%s", path.c_str());
    } else {
        snprintf(out->absence, sizeof out->absence, "not found (%s): %s", tried.c_str(), without);
        snprintf(out->install, sizeof out->install, "%s", install);
    }
    return found;
}

}
