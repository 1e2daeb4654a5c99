"""What is wrong with the declaration of a study: every problem, a sentence each."""

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence

from torchstudy.data.images import Images
from torchstudy.declaring import domains_of
from torchstudy.errors import SpaceError, StudyError, did_you_mean
from torchstudy.families.base import Family, domains_with_training, is_declared
from torchstudy.fitting import incomparable, instantiate
from torchstudy.records import COSTS, METHODS
from torchstudy.space import SearchSpace
from torchstudy.values import is_integer, is_number

LONGEST_NAME = 100  # letters of a family's name
MOST_OBJECTIVES = 4  # the boxes that a hypervolume is made of grow with the power of their number
SHORT_NAMES = {"latency": "latency_p50"}  # of objectives and limits


def changes_for(family: type[Family], space: Mapping[str, object]) -> dict[str, object]:
    """The entries of a study's `space` that concern one family, by plain name.

    An entry for this family alone (`"CNN.width"`) goes before one for all.
    """
    known = domains_with_training(family)
    own = f"{family.__name__}."
    changes = {name: change for name, change in space.items() if name in known}
    changes |= {
        str(name).removeprefix(own): change
        for name, change in space.items()
        if str(name).startswith(own)
    }
    return {name: family.adopted(name, change) for name, change in changes.items()}


def data_problems(data: object) -> Iterator[str]:
    """Why these data cannot be declared."""
    try:
        yield from Images.of(data).problems()
    except StudyError as error:
        yield from error.problems


def declared_families(families: object) -> Iterator[type[Family]]:
    """Those of `families` that are whole: the others are named by `family_problems`."""
    if isinstance(families, Sequence):
        yield from (family for family in families if _is_complete(family))


def _is_complete(family: object) -> bool:
    return is_declared(family) and not inspect.isabstract(family)


def family_problems(families: object) -> Iterator[str]:
    """What is no family, or none that can be told from the others."""
    if not isinstance(families, Sequence) or isinstance(families, str) or not families:
        yield f"families: give a list of one or more, such as [CNN, Transfer]; got {families!r}"
        return
    names = [getattr(family, "__name__", repr(family)) for family in families]
    for name, family in zip(names, families, strict=True):
        if not is_declared(family):
            yield f"families: {name} is not a Family class decorated with @family"
        elif not name.isidentifier() or len(name) > LONGEST_NAME:  # it names files
            yield (
                f"families: {name!r} cannot name a family; use letters, digits and '_', "
                f"up to {LONGEST_NAME}"
            )
        elif inspect.isabstract(family):
            missing = ", ".join(sorted(family.__abstractmethods__))
            yield f"families: {name} does not define {missing}"
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"families: {name} is listed twice"


def objective_problems(
    maximize: object, minimize: object, families: Sequence[type[Family]]
) -> Iterator[str]:
    """Why these families cannot be compared by what is to be maximized or minimized."""
    for field, given in (("maximize", maximize), ("minimize", minimize)):
        if not _is_names(given):
            yield f"{field}: must be the name of a metric, or a list of some; got {given!r}"
            return
    names = [*metrics_of(maximize), *metrics_of(minimize)]
    if not names:
        yield 'objective: give maximize= or minimize=, such as maximize="accuracy"'
        return
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"objective: {name} is given twice"
    if len(names) > MOST_OBJECTIVES:
        yield f"objective: at most {MOST_OBJECTIVES} can be traded off; got {len(names)}"
    for name in names:
        yield from incomparable(families, name)


def metrics_of(given: object) -> list[str]:
    """The metrics that `maximize` or `minimize` names, none for what is no name."""
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, Sequence):
        return []
    return [full_name(name) for name in names if isinstance(name, str)]


def full_name(name: str) -> str:
    """The metric or cost that a name stands for."""
    return SHORT_NAMES.get(name, name)


def _is_names(given: object) -> bool:
    if given is None or isinstance(given, str):
        return True
    return isinstance(given, Sequence) and all(isinstance(name, str) for name in given)


def budget_problems(
    counts: Mapping[str, object], minutes: object, confirm: object
) -> Iterator[str]:
    """What is no budget: `counts` are trials, epochs, repeats and seed."""
    for name, value in counts.items():
        least = 0 if name == "seed" else 1
        if not is_integer(value) or value < least:
            yield f"{name}: must be a whole number of at least {least}; got {value!r}"
    if minutes is not None and not (is_number(minutes) and minutes > 0):
        yield f"minutes: must be a number above 0 or None; got {minutes!r}"
    if confirm is not None and not _is_pair_of_counts(confirm):
        yield "confirm: must be (configurations, seeds), both at least 1, or None; got " + repr(
            confirm
        )


def gain_problems(
    worthwhile: object, num_objectives: int, bounds: object, method: object
) -> Iterator[str]:
    """What is no gain that a search could stop at."""
    if worthwhile is None:
        return
    if num_objectives > 1:
        yield "worthwhile: is a gain of one objective; leave it out where there are several"
    if bounds:
        yield "worthwhile: is a gain of the objective alone; leave it out beside at_least="
    if method != METHODS[0]:
        yield f"worthwhile: only method={METHODS[0]!r} knows what to expect; got {method!r}"
    if not is_number(worthwhile) or not 0 < worthwhile < float("inf"):
        yield f"worthwhile: must be a number above 0 or None; got {worthwhile!r}"


def name_problems(name: object) -> Iterator[str]:
    """Why this cannot name a folder."""
    if not isinstance(name, str) or not _is_file_name(name):
        yield f"name: {name!r} cannot name a folder; use letters, digits, '-', '_' and '.'"


def _is_pair_of_counts(value: object) -> bool:
    if not isinstance(value, tuple | list) or len(value) != 2:
        return False
    return all(is_integer(count) and count >= 1 for count in value)


def limit_problems(limits: object, families: Sequence[type[Family]]) -> Iterator[str]:
    """What is no cost or metric, or no limit of a cost."""
    if not isinstance(limits, Mapping):
        example = '{"parameters": 200_000}'
        yield f"limits: a mapping of costs to their most, such as {example}; got {limits!r}"
        return
    metrics = sorted({metric for family in families for metric in family.metrics})
    for short, full in SHORT_NAMES.items():
        if short in limits and full in limits:
            yield f"limits: {short} stands for {full}, which has a limit too; give one of the two"
    for name, value in limits.items():
        if name not in (*COSTS, *SHORT_NAMES, *metrics):
            hint = did_you_mean(str(name), (*COSTS, *metrics))
            learned = f", or a metric: {', '.join(metrics)}" if metrics else ""
            yield f"limits: {name!r} is no cost{hint}; there are {', '.join(COSTS)}{learned}"
        elif name not in metrics and not (is_number(value) and 0 < value < float("inf")):
            yield f"limits: {name} must be a number above 0; got {value!r}"


def bound_problems(
    limits: object, at_least: object, objectives: Sequence[str], families: Sequence[type[Family]]
) -> Iterator[str]:
    """What is no bound on a metric that all families learn, or says what the objective does."""
    if not isinstance(at_least, Mapping):
        example = '{"accuracy": 0.95}'
        yield f"at_least: a mapping of metrics to what they reach, such as {example}; got " + repr(
            at_least
        )
        return
    known = {metric for family in families for metric in family.metrics} - {*COSTS}
    most = limits if isinstance(limits, Mapping) else {}  # what is none has been named
    upper = {name: value for name, value in most.items() if name in known}
    for name in sorted({*upper} & {*at_least}):
        yield f"at_least: {name} has a limit too; give one of the two"
    for field, given in (("at_least", at_least), ("limits", upper)):
        for name, value in given.items():
            if name in COSTS:
                yield f"{field}: {name} is a cost, of which `limits` give the most"
            elif not is_number(value) or not math.isfinite(value):
                yield f"{field}: {name} must be a number; got {value!r}"
            elif list(objectives) == [name]:
                yield f"{field}: {name} is the objective already; a bound on it changes nothing"
            else:
                yield from (
                    problem.replace("objective:", f"{field}:", 1)
                    for problem in incomparable(families, str(name))
                )


def choice_problems(
    name: str, value: object, known: Sequence[str], other_names: Mapping[str, str] | None = None
) -> Iterator[str]:
    """A value that is not one of those known; what else one of them may be called helps to hint."""
    if value not in known:
        meant = (other_names or {}).get(str(value).lower(), str(value))
        hint = did_you_mean(meant, known)
        yield f"{name}: {value!r} is not one of {', '.join(known)}{hint}"


def _is_file_name(name: str) -> bool:
    allowed = all(letter.isalnum() or letter in "-_." for letter in name)
    return allowed and name != "" and name[0] != "."


def method_problems(method: object, known: Sequence[str]) -> Iterator[str]:
    """A method of search that there is not; a strategy of Ax is one, and is not loaded for that."""
    kinds = {cls.__name__ for cls in type(method).__mro__}
    if "GenerationStrategy" in kinds:
        return
    if isinstance(method, str):
        yield from choice_problems("method", method, known)
    else:
        names = ", ".join(known)
        yield f"method: must be one of {names} or a GenerationStrategy of Ax; got {method!r}"


def space_problems(space: object, families: Sequence[type[Family]]) -> Iterator[str]:
    """What in `space` no family has, or cannot be."""
    if not isinstance(space, Mapping):
        yield f"space: must be a mapping of names to ranges or values; got {space!r}"
        return
    yield from _unknown_names("space", space, families)
    for family in families:
        yield from (_placed(problem, family) for problem in _misfits(family, space))


def _misfits(family: type[Family], space: Mapping[str, object]) -> Iterator[str]:
    whole = SearchSpace(domains_with_training(family))
    changes = changes_for(family, space)
    fitting = _fitting(whole, changes)
    for name in (name for name in changes if name in whole.domains and name not in fitting):
        try:
            whole.narrowed({name: changes[name]})
        except SpaceError as error:
            yield from error.problems
    try:
        narrowed, _ = whole.narrowed(fitting)
    except SpaceError as error:
        yield from error.problems
    else:
        yield from _refusals(family, narrowed)


def _refusals(family: type[Family], space: SearchSpace) -> Iterator[str]:
    for config in space.corners():
        try:
            instantiate(family, config)
        except SpaceError as error:
            yield from error.problems


def _placed(problem: str, family: type[Family]) -> str:
    name = problem.split(" ")[0]
    is_own = name in domains_of(family)
    return f"space.{family.__name__}.{problem}" if is_own else f"space.{problem}"


def good_problems(
    good: object, space: Mapping[str, object], families: Sequence[type[Family]]
) -> Iterator[str]:
    """What in `good` no family has, or cannot be in the narrowed space."""
    example = 'a list of configurations, such as [{"learning_rate": 0.01}]'
    if not isinstance(good, Sequence) or isinstance(good, str):
        yield f"good: must be {example}; got {good!r}"
        return
    for place, given in enumerate(good):
        field = f"good[{place}]"
        if not isinstance(given, Mapping) or not given:
            yield f"{field}: must be a mapping of names to values; good is {example}"
            continue
        yield from _unknown_names(field, given, families)
        for family in families:
            whole = SearchSpace(domains_with_training(family))
            narrowed, _ = whole.narrowed(_fitting(whole, changes_for(family, space)))
            for name, value in changes_for(family, given).items():
                domain = narrowed.domains.get(name)
                if domain is not None and (problem := domain.problem(value)):
                    yield f"{field}.{name}: {problem} for {family.__name__}"


def _fitting(whole: SearchSpace, changes: Mapping[str, object]) -> dict[str, object]:
    """The changes that can be made; the others are named by `_misfits`."""
    fitting = {}
    for name, change in changes.items():
        try:
            whole.narrowed({name: change})
            fitting[name] = change
        except SpaceError:
            continue
    return fitting


def _unknown_names(
    field: str, given: Mapping[str, object], families: Sequence[type[Family]]
) -> Iterator[str]:
    by_family = {family.__name__: set(domains_with_training(family)) for family in families}
    everything = sorted(set().union(*by_family.values())) if by_family else []
    for name in given:
        if not isinstance(name, str):
            yield f"{field}: names are text, such as 'learning_rate' or 'CNN.width'; got {name!r}"
            continue
        family, dot, own = name.partition(".")
        if not dot:
            if families and name not in everything:
                hint = did_you_mean(name, everything)
                yield f"{field}.{name} is not a hyperparameter of {', '.join(by_family)}{hint}"
        elif family not in by_family:
            hint = did_you_mean(family, by_family)
            yield f"{field}.{name}: the study has no family {family!r}{hint}"
        elif own not in by_family[family]:
            hint = did_you_mean(own, by_family[family])
            yield f"{field}.{name}: {own!r} is not a hyperparameter of {family}{hint}"
