"""Which schedules the benchmark's own peer times."""

from dataclasses import replace

from benchmarks.peers import vm_gemm
from benchmarks.problem import Point, WeightType
from programs.gemm_schedules import H100, best, fitting
from vm.runtime.manifest import Manifest

POINT = Point("gm9_dn", WeightType.parse("u3"), 8)


def test_the_best_few_are_timed_or_all_and_none_that_did_not_compile(monkeypatch):
    form, sizes = vm_gemm.form_of(POINT), (POINT.m, POINT.n, POINT.k)
    assert vm_gemm.schedules(vm_gemm.BUILD, POINT) == best(form, *sizes, H100, vm_gemm.COUNT)
    monkeypatch.setattr(vm_gemm, "COUNT", 0)
    assert vm_gemm.schedules(vm_gemm.BUILD, POINT) == list(fitting(form, *sizes, H100))
    monkeypatch.setattr(vm_gemm, "COUNT", 3)
    first, *others, fourth = best(form, *sizes, H100, 4)
    assert vm_gemm.schedules(vm_gemm.BUILD, POINT) == [first, *others]
    monkeypatch.setattr(vm_gemm, "BUILD", replace(vm_gemm.BUILD, failed={(form, first)}))
    assert vm_gemm.schedules(vm_gemm.BUILD, POINT) == [*others, fourth]


def test_what_was_tuned_is_taken_without_timing(monkeypatch, tmp_path):
    from vm.runtime import stopwatch, tuning

    class Watch:
        device_name, versions = "none", {}

    monkeypatch.setattr(stopwatch, "CudaStopwatch", Watch)
    store = tuning.Store(tmp_path)
    monkeypatch.setattr(tuning, "Store", lambda: store)
    found = vm_gemm.schedules(vm_gemm.BUILD, POINT)[:3]
    assert vm_gemm.tuned(POINT, found) == found
    configurations = vm_gemm.configurations(vm_gemm.form_of(POINT), found)
    for us, configuration in zip((9.0, 7.0), configurations, strict=False):
        kernel = configuration.module()["gemm"].instantiate()
        sizes = {"M": POINT.m, "N": POINT.n, "K": POINT.k}
        outcome = tuning.Outcome(stopwatch.Measurement(us, us, us, 16))
        store.get_or_measure(
            tuning.key_of(kernel, sizes, Watch()), configuration, lambda each=outcome: each
        )
    assert vm_gemm.tuned(POINT, found) == [found[1]]


def test_what_is_built_for_sm80_has_none_of_what_came_later():
    for schedule in vm_gemm.schedules(vm_gemm.BUILD_SM80, POINT)[:2]:
        assert not schedule.bulk
        kernel = vm_gemm.module(vm_gemm.form_of(POINT), schedule)["gemm"].instantiate()
        entry = vm_gemm._ptx_of_sm80(kernel)
        text = entry.payload.decode()
        assert ".target sm_80" in text and "griddepcontrol" not in text and "mbarrier" not in text
        assert not Manifest.from_json(entry.metadata["manifest"]).pdl
