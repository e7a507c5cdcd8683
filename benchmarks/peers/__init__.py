"""Who is compared. One file per peer; adding one means one file and one line in `PEERS`."""

from benchmarks.peers.humming_kernels import HUMMING, HUMMING_PDL
from benchmarks.peers.peer import Peer, Prepared
from benchmarks.peers.tilus_example import TILUS
from benchmarks.peers.torch_f16 import TORCH_F16
from benchmarks.peers.triton_w4a16 import TRITON
from benchmarks.peers.vm_gemm import VM_GEMM, VM_GEMM_SM80
from benchmarks.peers.vm_w4a16 import VM

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (TORCH_F16, HUMMING, HUMMING_PDL, TRITON, TILUS, VM, VM_GEMM, VM_GEMM_SM80)
}
"""Name -> peer, in the order of tables and legends."""

__all__ = ["PEERS", "Peer", "Prepared"]
