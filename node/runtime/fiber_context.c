/*
 * fiber_context.c -- mapping stacks and changing between them.
 *
 * The change itself is a dozen instructions of assembly (fiber_switch_*.S). Around it stand the
 * announcements that AddressSanitizer and ThreadSanitizer need in order to follow: ASan is told the
 * bounds of the stack we go to and, on arrival, tells the bounds of the one we came from, which is
 * how the plain stack of a thread gets to know its own. A stack that is used again still carries the
 * poison of its last frames, so a new context starts by removing it.
 *
 * Below each stack lies a page without rights: running over the end is a fault at once instead of a
 * silent walk into the neighbour.
 */
#include "node/runtime/fiber_context.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "node/base/invariant.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define FIBER_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define FIBER_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__)
#define FIBER_TSAN 1
#endif

#if defined(FIBER_ASAN) && !__has_include(<sanitizer/asan_interface.h>)
#undef FIBER_ASAN /* An analyser without the sanitizers' headers; what is compiled for them has them. */
#endif

#ifdef FIBER_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef FIBER_TSAN
#include <sanitizer/tsan_interface.h>
#endif

/* Assembly. The first saves the registers, leaves the old stack pointer in *save_sp and goes on with
 * new_sp; the second is the first return address of a new context. */
void fiber__switch(void **save_sp, void *new_sp);
void fiber__trampoline(void);

static size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

struct status fiber_stack_map(struct fiber_context *c, size_t size)
{
    const size_t guard = page_bytes();
    uint8_t *low = NULL;

    INVARIANT(size >= 4 * guard);
    INVARIANT(size % guard == 0);
    memset(c, 0, sizeof(*c));
    low = mmap(NULL, size + guard, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (low == MAP_FAILED) {
        return FAIL(STATUS_MEMORY, "no address space or mappings left for a fiber stack");
    }
    if (mprotect(low + guard, size, PROT_READ | PROT_WRITE) != 0) {
        (void)munmap(low, size + guard); /* Nothing else can be done with it. */
        return FAIL(STATUS_MEMORY, "no memory mappings left for a fiber stack");
    }
    /* A huge page would make the first touched byte of a big stack cost 2 MiB. Only advice. */
    (void)madvise(low + guard, size, MADV_NOHUGEPAGE);
    c->stack_low = low + guard;
    c->stack_size = size;
    return OK;
}

void fiber_stack_unmap(struct fiber_context *c)
{
    const size_t guard = page_bytes();

    if (c->stack_low == NULL) {
        return;
    }
#ifdef FIBER_ASAN
    __asan_unpoison_memory_region(c->stack_low, c->stack_size);
#endif
    (void)munmap((uint8_t *)c->stack_low - guard, c->stack_size + guard);
    memset(c, 0, sizeof(*c));
}

void fiber_stack_trim(struct fiber_context *c)
{
    (void)madvise(c->stack_low, c->stack_size, MADV_DONTNEED); /* Advice: failing costs memory. */
}

/* Writes the frame that fiber__switch() will pop; see the drawings in the assembly files. */
static void *first_frame(uint8_t *top, void (*entry)(void *arg), void *arg)
{
    void (*const trampoline)(void) = fiber__trampoline;

    INVARIANT((uintptr_t)top % 16 == 0);
#if defined(__x86_64__)
    enum {
        CONTROL_WORDS,
        R15,
        R14,
        R13,
        R12,
        RBX,
        RBP,
        RETURN,
        WORDS
    };
    /* Two zero words above the return address end backtraces; after `ret` the stack pointer is a
     * multiple of 16, as the ABI wants it before a call. */
    uint64_t *frame = (uint64_t *)(void *)top - 2 - WORDS;
    const uint32_t mxcsr = 0x1F80; /* All exceptions masked, round to nearest. */
    const uint32_t x87 = 0x037F;   /* The same for x87. */

    memset(frame, 0, (2 + WORDS) * sizeof(*frame));
    frame[CONTROL_WORDS] = (uint64_t)x87 << 32 | mxcsr;
    memcpy(&frame[R13], &entry, sizeof(entry));
    memcpy(&frame[R12], &arg, sizeof(arg));
    memcpy(&frame[RETURN], &trampoline, sizeof(trampoline));
#elif defined(__aarch64__)
    enum {
        X19,
        X20,
        X30 = 11,
        WORDS = 20
    };
    uint64_t *frame = (uint64_t *)(void *)top - 2 - WORDS;

    memset(frame, 0, (2 + WORDS) * sizeof(*frame));
    memcpy(&frame[X19], &arg, sizeof(arg));
    memcpy(&frame[X20], &entry, sizeof(entry));
    memcpy(&frame[X30], &trampoline, sizeof(trampoline));
#else
    _Static_assert(0, "no fiber switch for this processor");
#endif
    return frame;
}

void fiber_context_init(struct fiber_context *c, void (*entry)(void *arg), void *arg)
{
#ifdef FIBER_ASAN
    __asan_unpoison_memory_region(c->stack_low, c->stack_size);
#endif
    c->asan_fake = NULL;
#ifdef FIBER_TSAN
    c->tsan = __tsan_create_fiber(0);
#endif
    c->sp = first_frame((uint8_t *)c->stack_low + c->stack_size, entry, arg);
}

void fiber_context_deinit(struct fiber_context *c)
{
#ifdef FIBER_TSAN
    if (c->tsan != NULL) {
        __tsan_destroy_fiber(c->tsan);
    }
#endif
    c->tsan = NULL;
}

void fiber_context_arrived(struct fiber_context *me)
{
#ifdef FIBER_ASAN
    const void *low = NULL;
    size_t size = 0;

    __sanitizer_finish_switch_fiber(me->asan_fake, &low, &size);
    /* The sanitizer knows the bounds of the thread's own stack; ours are already equal. */
    memcpy(&me->came_from->stack_low, &low, sizeof(low));
    me->came_from->stack_size = size;
#else
    UNUSED(me);
#endif
}

void fiber_context_switch(struct fiber_context *from, struct fiber_context *to)
{
    to->came_from = from;
#ifdef FIBER_TSAN
    from->tsan = __tsan_get_current_fiber();
#endif
#ifdef FIBER_ASAN
    __sanitizer_start_switch_fiber(&from->asan_fake, to->stack_low, to->stack_size);
#endif
#ifdef FIBER_TSAN
    __tsan_switch_to_fiber(to->tsan, 0);
#endif
    fiber__switch(&from->sp, to->sp);
    fiber_context_arrived(from);
}

void fiber_context_leave(struct fiber_context *from, struct fiber_context *to)
{
    to->came_from = from;
#ifdef FIBER_ASAN
    /* No place to save the fake stack: it is freed. */
    __sanitizer_start_switch_fiber(NULL, to->stack_low, to->stack_size);
#endif
#ifdef FIBER_TSAN
    __tsan_switch_to_fiber(to->tsan, 0);
#endif
    fiber__switch(&from->sp, to->sp);
    invariant_broken("a context that left came back", __FILE__, __LINE__);
}
