// Stands in for functions that the static C++ runtime takes from the newest glibc, so that what is linked with it
// runs on older ones. See `rocksdb.py`.

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

// For `std::random_device`; glibc has it since 2.36 only. Hidden, or it would take the place of glibc's for others.
extern "C" __attribute__((visibility("hidden"))) uint32_t arc4random(void) {
  uint32_t number;
  if (getentropy(&number, sizeof number) == 0) return number;
  // Kernels before 3.17, and filters of system calls.
  int file = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
  // glibc ends the process as well where there is no randomness at all.
  if (file < 0 || read(file, &number, sizeof number) != (ssize_t)sizeof number) abort();
  close(file);
  return number;
}
