/*
 * fiber_switch_aarch64.S -- changing stacks under AAPCS64.
 *
 * Saved is what a call preserves: x19 to x30 and the low halves of v8 to v15, 160 bytes in all:
 *
 *     sp -> x19 x20 | x21 x22 | x23 x24 | x25 x26 | x27 x28 | x29 x30 | d8 d9 | ... | d14 d15
 */
#if defined(__aarch64__)

    .text
    .globl fiber__switch
    .type fiber__switch, %function
    .p2align 4
/* void fiber__switch(void **save_sp, void *new_sp) */
fiber__switch:
    .cfi_startproc
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x2, sp
    str x2, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
    .cfi_endproc
    .size fiber__switch, .-fiber__switch

    .globl fiber__trampoline
    .type fiber__trampoline, %function
    .p2align 4
/* First return of a new context: x19 is the argument, x20 the function, which never returns. */
fiber__trampoline:
    .cfi_startproc
    .cfi_undefined x30
    mov x0, x19
    blr x20
    brk #1
    .cfi_endproc
    .size fiber__trampoline, .-fiber__trampoline

#endif

    .section .note.GNU-stack, "", %progbits
