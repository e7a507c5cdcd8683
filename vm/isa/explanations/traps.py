from vm.isa.explanations.explanation import Explanation

EXPLANATIONS: tuple[Explanation, ...] = ()
