// A library for LD_PRELOAD that makes one call fail: the k-th among write, writev, pwrite, pwritev, fsync, fdatasync,
// rename, renameat, renameat2, ftruncate, mkdir and opening for writing, counting those on files below GRAFT_FAULT_DIR
// in all threads.
//
//   GRAFT_FAULT_DIR     absolute directory; calls on other files are neither counted nor touched
//   GRAFT_FAULT_AT      k, from 1; unset or 0: nothing fails
//   GRAFT_FAULT_ERRNO   ENOSPC (default), EIO, EDQUOT, EINVAL, EINTR; SHORT: half of a write is done and reported;
//                       KILL: half of a write is done, then the process dies by SIGKILL; TERM: the process gets SIGTERM
//                       and the call is done
//   GRAFT_FAULT_STICKY  1: every call from the k-th on fails, as on a disk that stays full
//   GRAFT_FAULT_COUNT   file that holds the number of counted calls so far
//
// Calls through libc's entry points are caught wherever they come from, those of libhdf5 included; stdio's own writes
// are not.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

// The next definition of the function that is being replaced.
#define NEXT(name)               \
  static __typeof__(&name) next; \
  if (!next) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

enum { kPass = 0, kShort = -1, kKill = -2, kTerm = -3 };  // otherwise an errno

static atomic_long calls;

static int below_directory(const char* path) {
  const char* directory = getenv("GRAFT_FAULT_DIR");
  if (!directory) return 0;
  const size_t length = strlen(directory);
  return strncmp(path, directory, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

static int descriptor_counts(int descriptor) {
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  const ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = '\0';
  return below_directory(path);
}

static int path_counts(int at, const char* path) {
  if (path[0] == '/') return below_directory(path);
  char full[2 * PATH_MAX];
  if (at == AT_FDCWD) {
    if (!getcwd(full, PATH_MAX)) return 0;
  } else {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", at);
    const ssize_t length = readlink(link, full, PATH_MAX - 1);
    if (length < 0) return 0;
    full[length] = '\0';
  }
  strcat(full, "/");
  strncat(full, path, PATH_MAX - 1);
  return below_directory(full);
}

static void record(long count) {
  const char* file = getenv("GRAFT_FAULT_COUNT");
  if (!file) return;
  const int descriptor = (int)syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  char text[32];
  const int length = snprintf(text, sizeof text, "%ld\n", count);
  if (descriptor >= 0) {
    syscall(SYS_pwrite64, descriptor, text, (size_t)length, (off_t)0);
    syscall(SYS_close, descriptor);
  }
}

// What happens to the call that is being counted now.
static int decide(void) {
  const int saved = errno;
  const long count = atomic_fetch_add(&calls, 1) + 1;
  record(count);
  errno = saved;
  const char* at = getenv("GRAFT_FAULT_AT");
  const long chosen = at ? atol(at) : 0;
  const char* sticky = getenv("GRAFT_FAULT_STICKY");
  if (chosen <= 0 || count < chosen || (count > chosen && !(sticky && *sticky == '1'))) return kPass;
  const char* name = getenv("GRAFT_FAULT_ERRNO");
  if (!name || strcmp(name, "ENOSPC") == 0) return ENOSPC;
  if (strcmp(name, "EIO") == 0) return EIO;
  if (strcmp(name, "EDQUOT") == 0) return EDQUOT;
  if (strcmp(name, "EINVAL") == 0) return EINVAL;
  if (strcmp(name, "EINTR") == 0) return EINTR;
  if (strcmp(name, "SHORT") == 0) return kShort;
  if (strcmp(name, "KILL") == 0) return kKill;
  if (strcmp(name, "TERM") == 0) return kTerm;
  fprintf(stderr, "fault_preload: unknown GRAFT_FAULT_ERRNO %s\n", name);
  abort();
}

// 1 when the call must not be made; errno is set. For calls that write no bytes.
static int refused(int counts) {
  const int fate = counts ? decide() : kPass;
  if (fate == kKill) kill(getpid(), SIGKILL);
  if (fate == kTerm) kill(getpid(), SIGTERM);
  if (fate == kPass || fate == kShort || fate == kTerm) return 0;
  errno = fate;
  return 1;
}

// The same for writes of `size` bytes: returns the bytes to write, or -1 with errno.
static ssize_t allowed(int descriptor, size_t size, int* kill_after) {
  const int fate = descriptor_counts(descriptor) ? decide() : kPass;
  *kill_after = fate == kKill;
  if (fate == kTerm) kill(getpid(), SIGTERM);
  if (fate == kPass || fate == kTerm) return (ssize_t)size;
  if (fate == kShort || fate == kKill) return (ssize_t)(size > 1 && fate == kShort ? (size + 1) / 2 : size / 2);
  errno = fate;
  return -1;
}

ssize_t write(int descriptor, const void* data, size_t size) {
  NEXT(write);
  int die;
  const ssize_t bytes = allowed(descriptor, size, &die);
  if (bytes < 0) return -1;
  const ssize_t written = next(descriptor, data, (size_t)bytes);
  if (die) kill(getpid(), SIGKILL);
  return written;
}

#define DEFINE_PWRITE(name, offset_type)                                            \
  ssize_t name(int descriptor, const void* data, size_t size, offset_type offset) { \
    NEXT(name);                                                                     \
    int die;                                                                        \
    const ssize_t bytes = allowed(descriptor, size, &die);                          \
    if (bytes < 0) return -1;                                                       \
    const ssize_t written = next(descriptor, data, (size_t)bytes, offset);          \
    if (die) kill(getpid(), SIGKILL);                                               \
    return written;                                                                 \
  }
DEFINE_PWRITE(pwrite, off_t)
DEFINE_PWRITE(pwrite64, off64_t)

// Vectored writes are done whole or not at all.
ssize_t writev(int descriptor, const struct iovec* parts, int count) {
  NEXT(writev);
  if (refused(descriptor_counts(descriptor))) return -1;
  return next(descriptor, parts, count);
}

#define DEFINE_PWRITEV(name, offset_type)                                                  \
  ssize_t name(int descriptor, const struct iovec* parts, int count, offset_type offset) { \
    NEXT(name);                                                                            \
    if (refused(descriptor_counts(descriptor))) return -1;                                 \
    return next(descriptor, parts, count, offset);                                         \
  }
DEFINE_PWRITEV(pwritev, off_t)
DEFINE_PWRITEV(pwritev64, off64_t)

int fsync(int descriptor) {
  NEXT(fsync);
  return refused(descriptor_counts(descriptor)) ? -1 : next(descriptor);
}

int fdatasync(int descriptor) {
  NEXT(fdatasync);
  return refused(descriptor_counts(descriptor)) ? -1 : next(descriptor);
}

#define DEFINE_FTRUNCATE(name, offset_type)                                      \
  int name(int descriptor, offset_type size) {                                   \
    NEXT(name);                                                                  \
    return refused(descriptor_counts(descriptor)) ? -1 : next(descriptor, size); \
  }
DEFINE_FTRUNCATE(ftruncate, off_t)
DEFINE_FTRUNCATE(ftruncate64, off64_t)

// Changing names is never interrupted by a signal.
static int name_refused(int counts) {
  const int is_refused = refused(counts);
  return is_refused && errno != EINTR;
}

int rename(const char* from, const char* to) {
  NEXT(rename);
  return name_refused(path_counts(AT_FDCWD, to)) ? -1 : next(from, to);
}

int renameat(int from_at, const char* from, int to_at, const char* to) {
  NEXT(renameat);
  return name_refused(path_counts(to_at, to)) ? -1 : next(from_at, from, to_at, to);
}

int renameat2(int from_at, const char* from, int to_at, const char* to, unsigned flags) {
  NEXT(renameat2);
  return name_refused(path_counts(to_at, to)) ? -1 : next(from_at, from, to_at, to, flags);
}

int mkdir(const char* path, mode_t mode) {
  NEXT(mkdir);
  return name_refused(path_counts(AT_FDCWD, path)) ? -1 : next(path, mode);
}

static int for_writing(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)); }

#define OPEN_MODE                      \
  mode_t mode = 0;                     \
  if (flags & (O_CREAT | O_TMPFILE)) { \
    va_list rest;                      \
    va_start(rest, flags);             \
    mode = (mode_t)va_arg(rest, int);  \
    va_end(rest);                      \
  }

#define DEFINE_OPEN(name)                                                                             \
  int name(const char* path, int flags, ...) {                                                        \
    NEXT(name);                                                                                       \
    OPEN_MODE                                                                                         \
    return refused(for_writing(flags) && path_counts(AT_FDCWD, path)) ? -1 : next(path, flags, mode); \
  }
DEFINE_OPEN(open)
DEFINE_OPEN(open64)

#define DEFINE_OPENAT(name)                                                                         \
  int name(int at, const char* path, int flags, ...) {                                              \
    NEXT(name);                                                                                     \
    OPEN_MODE                                                                                       \
    return refused(for_writing(flags) && path_counts(at, path)) ? -1 : next(at, path, flags, mode); \
  }
DEFINE_OPENAT(openat)
DEFINE_OPENAT(openat64)
