// From power-on to Rust: exception level 1, NEON, MMU and caches on, a stack. Only what cannot be
// written in Rust, because before the MMU is on nothing may be loaded or stored unaligned.
//
// On entry x0 is the address of the device tree or 0; all other cores are off.

.section .text.start, "ax"
.global _start
_start:
    mov     x19, x0
    bl      prepare_core
    adrp    x1, __stack_end
    add     x1, x1, :lo12:__stack_end
    mov     sp, x1
    adrp    x1, __bss_start
    add     x1, x1, :lo12:__bss_start
    adrp    x2, __bss_end
    add     x2, x2, :lo12:__bss_end
1:  cmp     x1, x2
    b.hs    2f
    stp     xzr, xzr, [x1], #16
    b       1b
2:  mov     x0, x19
    bl      start
3:  wfe
    b       3b

// Where PSCI starts another core; x0 is the end of its stack.
.global _start_core
_start_core:
    mov     x19, x0
    bl      prepare_core
    mov     sp, x19
    bl      start_core_main
4:  wfe
    b       4b

// Brings this core to exception level 1 and turns on NEON, the MMU and the caches. Uses x1 to x3.
prepare_core:
    mrs     x1, CurrentEL
    lsr     x1, x1, #2
    cmp     x1, #2
    b.ne    5f

    // Level 2: level 1 is AArch64, reads the timer and uses NEON without asking.
    mov     x1, #(1 << 31)
    msr     hcr_el2, x1
    mov     x1, #3
    msr     cnthctl_el2, x1
    msr     cntvoff_el2, xzr
    mov     x1, #0x33ff
    msr     cptr_el2, x1
    msr     hstr_el2, xzr
    ldr     x1, =0x30d00800             // SCTLR_EL1: its reserved ones, all else off
    msr     sctlr_el1, x1
    mov     x1, #0x3c5                  // level 1 on its own stack, interrupts masked
    msr     spsr_el2, x1
    adr     x1, 5f
    msr     elr_el2, x1
    eret

5:  mov     x1, #(3 << 20)              // CPACR_EL1.FPEN
    msr     cpacr_el1, x1
    adrp    x1, vectors
    add     x1, x1, :lo12:vectors
    msr     vbar_el1, x1

    ldr     x1, =0xff04                 // attribute 0: device, nGnRE; 1: memory, write-back
    msr     mair_el1, x1
    // 39 bits of address in pages of 4 KiB, walks cacheable and shared, no upper half.
    ldr     x1, =(25 | (1 << 8) | (1 << 10) | (3 << 12) | (1 << 23))
    mrs     x2, id_aa64mmfr0_el1
    and     x2, x2, #7
    orr     x1, x1, x2, lsl #32         // as many physical bits as there are
    msr     tcr_el1, x1
    adrp    x1, translation
    add     x1, x1, :lo12:translation
    msr     ttbr0_el1, x1
    isb
    tlbi    vmalle1
    ic      iallu
    dsb     sy
    isb
    mrs     x1, sctlr_el1
    ldr     x2, =0x1005                 // MMU, data cache, instruction cache
    orr     x1, x1, x2
    bic     x1, x1, #2                  // no alignment check
    msr     sctlr_el1, x1
    isb
    ret

// Any exception is the end: its number and what the processor knows of it are reported, on a stack of
// its own because the usual one may be the cause.
.macro vector number
    .balign 0x80
    adrp    x4, __exception_stack_end
    add     x4, x4, :lo12:__exception_stack_end
    mov     sp, x4
    mov     x0, #\number
    mrs     x1, esr_el1
    mrs     x2, elr_el1
    mrs     x3, far_el1
    b       exception
.endm

.section .text.vectors, "ax"
.balign 0x800
vectors:
    vector 0
    vector 1
    vector 2
    vector 3
    vector 4
    vector 5
    vector 6
    vector 7
    vector 8
    vector 9
    vector 10
    vector 11
    vector 12
    vector 13
    vector 14
    vector 15

// Addresses are what they are: 1 GiB of devices, then 1 GiB of memory.
.section .rodata.translation, "a"
.balign 4096
translation:
    .quad   0x0060000000000401          // device, never executed
    .quad   0x0000000040000705          // memory, inner shareable
    .fill   510, 8, 0
