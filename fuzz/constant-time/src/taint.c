/* What valgrind is asked for: code for its virtual machine, which does nothing outside of it. */
#include <stddef.h>
#include <valgrind/memcheck.h>

void willis_taint(const void *bytes, size_t count) { (void)VALGRIND_MAKE_MEM_UNDEFINED(bytes, count); }

void willis_clear(const void *bytes, size_t count) { (void)VALGRIND_MAKE_MEM_DEFINED(bytes, count); }

int willis_is_watched(void) { return RUNNING_ON_VALGRIND; }
