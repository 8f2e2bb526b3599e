/*
 * fiber_switch_x86_64.S -- changing stacks under the System V ABI.
 *
 * Only what a call preserves is saved: six integer registers, the control words of SSE and x87. The
 * frame left on the old stack is exactly what fiber_context_init() writes by hand for a new one:
 *
 *     sp -> mxcsr, x87 control | r15 | r14 | r13 | r12 | rbx | rbp | return address
 */
#if defined(__x86_64__)

    .text
    .globl fiber__switch
    .type fiber__switch, @function
    .p2align 4
/* void fiber__switch(void **save_sp, void *new_sp) */
fiber__switch:
    .cfi_startproc
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    subq $8, %rsp
    stmxcsr (%rsp)
    fnstcw 4(%rsp)
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    ldmxcsr (%rsp)
    fldcw 4(%rsp)
    addq $8, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .cfi_endproc
    .size fiber__switch, .-fiber__switch

    .globl fiber__trampoline
    .type fiber__trampoline, @function
    .p2align 4
/* First return of a new context: r12 is the argument, r13 the function, which never returns. The
 * stack pointer is a multiple of 16 here. */
fiber__trampoline:
    .cfi_startproc
    .cfi_undefined rip
    movq %r12, %rdi
    call *%r13
    ud2
    .cfi_endproc
    .size fiber__trampoline, .-fiber__trampoline

#endif

    .section .note.GNU-stack, "", %progbits
