#!/usr/bin/env python3
"""cuda-lazy-libs.py FOLDER   (FOLDER as laid out by cuda-toolchain.sh)

Writes FOLDER/cuda-lazy: the same toolkit, but its lib/ holds, instead of shared libraries, small static
archives that open the real CUDA libraries at the first call. A binary linked with CUDA_HOME=FOLDER/cuda-lazy
has no CUDA library in its NEEDED list: it starts on a machine with no CUDA and uses CUDA where it is found.
When a library cannot be opened, its calls return the status given below, so Device::new_cuda is an Err.
"""
import os, re, subprocess, sys
root = os.path.abspath(sys.argv[1]); cu = os.path.realpath(f"{root}/cuda"); out = f"{root}/cuda-lazy"; lib = f"{out}/lib"
os.makedirs(lib, exist_ok=True)
for d in ("bin", "include", "nvvm"):
    if not os.path.lexists(f"{out}/{d}"): os.symlink(os.path.relpath(f"{cu}/{d}", out), f"{out}/{d}")
if not os.path.lexists(f"{out}/lib64"): os.symlink("lib", f"{out}/lib64")

def exports(so, prefix):
    t = subprocess.run(["nm", "-D", "--defined-only", so], capture_output=True, text=True, check=True).stdout
    return sorted({l.split()[2].split("@")[0] for l in t.splitlines() if len(l.split()) == 3 and l.split()[1] in "TW" and l.split()[2].startswith(prefix)})
def driver():
    t = "".join(open(f"{cu}/include/{h}").read() for h in ("cuda.h", "cudaProfiler.h", "cudaTypedefs.h"))
    return sorted(set(re.findall(r"\bcu[A-Z][A-Za-z0-9]*(?:_v[0-9]+)?(?:_ptsz|_ptds)?\b", t)))
LIBS = {  # name: (sonames to try, exported names, status when missing)
    "cuda": (["libcuda.so.1"], driver(), 100),                                   # CUDA_ERROR_NO_DEVICE
    "cublas": (["libcublas.so.13"], exports(f"{cu}/lib/libcublas.so.13", "cublas"), 1),    # NOT_INITIALIZED
    "cublasLt": (["libcublasLt.so.13"], exports(f"{cu}/lib/libcublasLt.so.13", "cublasLt"), 1),
    "curand": (["libcurand.so.10"], exports(f"{cu}/lib/libcurand.so.10", "curand"), 203),  # INITIALIZATION_FAILED
    "nvrtc": (["libnvrtc.so.13"], exports(f"{cu}/lib/libnvrtc.so.13", "nvrtc"), 11),      # INTERNAL_ERROR
}
COMMON = """
.hidden lazy_{L}_resolve
lazy_{L}_enter:
  pushq %rdi; pushq %rsi; pushq %rdx; pushq %rcx; pushq %r8; pushq %r9; pushq %rax
  subq $128, %rsp
  movups %xmm0, (%rsp); movups %xmm1, 16(%rsp); movups %xmm2, 32(%rsp); movups %xmm3, 48(%rsp)
  movups %xmm4, 64(%rsp); movups %xmm5, 80(%rsp); movups %xmm6, 96(%rsp); movups %xmm7, 112(%rsp)
  movl %r11d, %edi
  call lazy_{L}_resolve
  movq %rax, %r11
  movups (%rsp), %xmm0; movups 16(%rsp), %xmm1; movups 32(%rsp), %xmm2; movups 48(%rsp), %xmm3
  movups 64(%rsp), %xmm4; movups 80(%rsp), %xmm5; movups 96(%rsp), %xmm6; movups 112(%rsp), %xmm7
  addq $128, %rsp
  popq %rax; popq %r9; popq %r8; popq %rcx; popq %rdx; popq %rsi; popq %rdi
  jmp *%r11
"""
for L, (sonames, names, status) in LIBS.items():
    n = len(names)
    s = [".text"] + [f".globl {f}\n.type {f},@function\n{f}:\n  endbr64\n  jmp *lazy_{L}_slots+{8*i}(%rip)\n{L}_r{i}: movl ${i}, %r11d\n  jmp lazy_{L}_enter" for i, f in enumerate(names)]
    # at entry rsp is 8 mod 16; 7 pushes + 128 make it 0 mod 16 at the call
    s += [COMMON.replace("{L}", L), ".data\n.balign 8\n.hidden lazy_%s_slots\n.globl lazy_%s_slots\nlazy_%s_slots:" % (L, L, L)] + [f"  .quad {L}_r{i}" for i in range(n)]
    s += ['.section .note.GNU-stack,"",@progbits\n']
    open(f"{lib}/{L}.s", "w").write("\n".join(s))
    so = ", ".join(f'"{x}"' for x in sonames)
    open(f"{lib}/{L}_c.c", "w").write(f"""#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
extern void *lazy_{L}_slots[] __attribute__((visibility("hidden")));
static const char *const names[] = {{{", ".join(f'"{f}"' for f in names)}}};
static void *handle; static pthread_once_t once = PTHREAD_ONCE_INIT;
static void open_lib(void) {{
  static const char *const sonames[] = {{{so}}};
  for (unsigned i = 0; i < sizeof sonames / sizeof *sonames && !handle; i++) handle = dlopen(sonames[i], RTLD_NOW | RTLD_GLOBAL);
}}
static int missing(void) {{ return {status}; }}
__attribute__((visibility("hidden"))) void *lazy_{L}_resolve(int i) {{
  pthread_once(&once, open_lib);
  void *p = handle ? dlsym(handle, names[i]) : 0;
  if (!p) p = (void *)missing;
  __atomic_store_n(&lazy_{L}_slots[i], p, __ATOMIC_RELEASE);
  return p;
}}
""")
    for a in (["cc", "-c", f"{L}.s", "-o", f"{L}_s.o"], ["cc", "-O2", "-fPIC", "-c", f"{L}_c.c", "-o", f"{L}_c.o"], ["ar", "rcs", f"lib{L}.a", f"{L}_s.o", f"{L}_c.o"]):
        subprocess.run(a, cwd=lib, check=True)
    for f in (f"{L}.s", f"{L}_c.c", f"{L}_s.o", f"{L}_c.o"): os.remove(f"{lib}/{f}")
    print(f"lib{L}.a: {n} entry points")
for d, t in (("libcudart.a", "libcudart_static.a"), ("libcudadevrt.a", "libcudadevrt.a")):
    if not os.path.lexists(f"{lib}/{d}"): os.symlink(os.path.relpath(f"{cu}/lib/{t}", lib), f"{lib}/{d}")
