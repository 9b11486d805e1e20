/* NVTX 3 is headers only: without a tool attached a call is a branch, and no library is needed. */
#include <nvtx3/nvToolsExt.h>

void qwen_gen_nvtx_push(const char *name) { nvtxRangePushA(name); }
void qwen_gen_nvtx_pop(void) { nvtxRangePop(); }
