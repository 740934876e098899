// A library for LD_PRELOAD that lets one allocation fail: the k-th of malloc, calloc, realloc and the aligned ones (operator new
// calls them), in all threads and in the processes that are forked.
//
//   GRAFT_FAULT_FROM   counting begins when a file is opened whose path holds this: what libraries allocate while they are loaded is
//                      not the program's
//   GRAFT_FAULT_AT     k, from 1; unset or 0: nothing fails
//   GRAFT_FAULT_COUNT  file that holds the number of counted allocations so far
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// glibc's own, of which the well-known names are aliases: to look those up allocates.
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* memory, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

enum { kDigits = 12 };  // of the count, right-aligned

static atomic_long own_count;
static atomic_long* count = &own_count;  // of all processes once it is shared
static atomic_int counting;
static long chosen;
static char* shown;

// The next definitions of the functions that are replaced: to look them up may allocate, so before anything is counted.
static __typeof__(&open) next_open, next_open64;
static __typeof__(&openat) next_openat, next_openat64;
static void look_up(void) {
  next_open = (__typeof__(&open))dlsym(RTLD_NEXT, "open");
  next_open64 = (__typeof__(&open))dlsym(RTLD_NEXT, "open64");
  next_openat = (__typeof__(&openat))dlsym(RTLD_NEXT, "openat");
  next_openat64 = (__typeof__(&openat))dlsym(RTLD_NEXT, "openat64");
}

static void begin(void) {
  look_up();
  const char* at = getenv("GRAFT_FAULT_AT");
  chosen = at ? atol(at) : 0;
  void* shared = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared != MAP_FAILED) count = shared;
  const char* file = getenv("GRAFT_FAULT_COUNT");
  const int descriptor = file ? open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
  if (descriptor >= 0 && ftruncate(descriptor, kDigits) == 0) {
    void* text = mmap(NULL, kDigits, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (text != MAP_FAILED) shown = memset(text, ' ', kDigits);
  }
  if (descriptor >= 0) close(descriptor);
  counting = 1;
}

static int fails(void) {
  if (!counting) return 0;
  const long now = atomic_fetch_add(count, 1) + 1;
  long rest = now;
  for (int i = kDigits; shown && rest > 0 && i > 0; rest /= 10) shown[--i] = (char)('0' + rest % 10);
  if (now != chosen) return 0;
  errno = ENOMEM;
  return 1;
}

void* malloc(size_t size) { return fails() ? NULL : __libc_malloc(size); }
void* calloc(size_t n, size_t size) { return fails() ? NULL : __libc_calloc(n, size); }
void* realloc(void* memory, size_t size) { return size > 0 && fails() ? NULL : __libc_realloc(memory, size); }
void* memalign(size_t alignment, size_t size) { return fails() ? NULL : __libc_memalign(alignment, size); }
void* aligned_alloc(size_t alignment, size_t size) { return fails() ? NULL : __libc_memalign(alignment, size); }
int posix_memalign(void** memory, size_t alignment, size_t size) {
  if (fails()) return ENOMEM;
  void* const got = __libc_memalign(alignment, size);
  if (!got) return ENOMEM;
  *memory = got;
  return 0;
}

static void opened(const char* path) {
  static atomic_int begun;
  const char* from = getenv("GRAFT_FAULT_FROM");
  if (from && strstr(path, from) && !atomic_exchange(&begun, 1)) begin();
}

#define MODE                           \
  mode_t mode = 0;                     \
  if (flags & (O_CREAT | O_TMPFILE)) { \
    va_list rest;                      \
    va_start(rest, flags);             \
    mode = (mode_t)va_arg(rest, int);  \
    va_end(rest);                      \
  }

#define DEFINE_OPEN(name)                        \
  int name(const char* path, int flags, ...) {   \
    if (!next_##name) look_up();                 \
    MODE                                         \
    opened(path);                                \
    return next_##name(path, flags, mode);       \
  }
DEFINE_OPEN(open)
DEFINE_OPEN(open64)

#define DEFINE_OPENAT(name)                            \
  int name(int at, const char* path, int flags, ...) { \
    if (!next_##name) look_up();                       \
    MODE                                               \
    opened(path);                                      \
    return next_##name(at, path, flags, mode);         \
  }
DEFINE_OPENAT(openat)
DEFINE_OPENAT(openat64)
