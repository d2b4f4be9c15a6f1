"""What a GPU can do faster: weights as its convolutions like them, and UNet calls that it plays from a recording."""

from __future__ import annotations

import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from diffusers import UNet2DConditionModel

from workers.diffusion.checkpoint.fusing import fuse, fusing_pays
from workers.diffusion.checkpoint.loading import Components
from workers.diffusion.memory import is_out_of_memory

logger = logging.getLogger(__name__)

Added = Mapping[str, torch.Tensor] | None
Answer = tuple[torch.Tensor]

MOST_ROWS = 16  # from there on a call keeps a GPU so busy that asking for it costs nothing
_OFTEN = 8  # calls of a kind before one is recorded: that takes as long as some calls
_MOST = 24  # recordings
_MOST_SEEN = 500  # kinds of calls that are counted: the addresses in the name of one take some kilobytes
_PAYS = 0.97  # of the time without
_TRIES = 3


def arrange(components: Components, *, fuses: bool = True) -> None:
    """Lays out the weights for the device. A GPU's convolutions in half precision want the channels last, and else turn
    everything around before and after each; on a CPU it makes no difference that could be measured.

    `fuses`: projections are, where that pays.
    """
    if components.device.type != "cuda":
        return
    for module in (components.unet, components.vae):
        module.to(memory_format=torch.channels_last)
    if fuses and fusing_pays(components.unet, components.device):
        fuse(components.unet)


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """What a UNet is given."""

    inputs: torch.Tensor
    timesteps: torch.Tensor
    texts: torch.Tensor
    added: Added

    @property
    def tensors(self) -> list[torch.Tensor]:
        return [self.inputs, self.timesteps, self.texts, *(self.added or {}).values()]

    @property
    def kind(self) -> tuple[object, ...]:
        return tuple((each.shape, each.dtype) for each in self.tensors)

    def by(self, unet: Callable[..., Answer]) -> torch.Tensor:
        return unet(self.inputs, self.timesteps, self.texts, added_cond_kwargs=self.added, return_dict=False)[0]


class Recording(Protocol):
    """A call that can be played again with other numbers of the same shapes."""

    def play(self, call: Call) -> torch.Tensor: ...


class CudaGraph:
    """The kernels of one UNet call, which the GPU then starts by itself.

    All of one UNet are recorded in one `stream`, and share their memory with one that is still there, `like`: only one
    is ever played at a time. The memory of recordings that are all gone can't be asked for again.
    """

    def __init__(self, unet: UNet2DConditionModel, call: Call, stream: Any, like: CudaGraph | None = None) -> None:
        added = None if call.added is None else {name: value.clone() for name, value in call.added.items()}
        self._given = Call(call.inputs.clone(), call.timesteps.clone(), call.texts.clone(), added)
        self._graph = torch.cuda.CUDAGraph()
        pool = None if like is None else like._graph.pool()
        stream.wait_stream(torch.cuda.current_stream())
        # Outermost, because a recording that fails leaves its stream as the thread's own, which nobody else waits for.
        with torch.cuda.stream(stream):
            for _ in range(2):  # what libraries set up at their first calls in a stream can't be recorded
                self._given.by(unet)
            # Other threads may use the GPU meanwhile, to enlarge a picture: theirs is not recorded, and no mistake.
            with torch.cuda.graph(self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                self._answer = self._given.by(unet)
        torch.cuda.current_stream().wait_stream(stream)

    def play(self, call: Call) -> torch.Tensor:
        for ours, theirs in zip(self._given.tensors, call.tensors, strict=True):
            ours.copy_(theirs)
        self._graph.replay()
        return self._answer.clone()


class RecordedUNet:
    """Called like the UNet; small calls that come often are played from a recording, once that has shown that it gives
    the very same numbers in less time.

    A small call costs a GPU less than it costs Python to ask for it, kernel by kernel. A recording is good for the
    weights where they lay when it was made, so the addresses of all of them are a part of its name.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        record: Callable[[UNet2DConditionModel, Call, Any], Recording],
        now_s: Callable[[], float],
    ) -> None:
        """`record` is given another recording of the UNet, if there is one."""
        self._unet = unet
        self._record = record
        self._now_s = now_s
        self._is_off = False
        self._places = [(part._parameters, name) for part in unet.modules() for name in part._parameters]
        self.forget()

    def forget(self) -> None:
        """Lets go of all recordings, and of the memory that they keep."""
        self._seen: Counter[object] = Counter()
        self._wanted: dict[object, int] = {}  # calls until one that was recorded before is recorded again
        self._recordings: OrderedDict[object, Recording | None] = OrderedDict()  # None: does not pay

    def __call__(
        self,
        inputs: torch.Tensor,
        timesteps: torch.Tensor,
        texts: torch.Tensor,
        added_cond_kwargs: Added = None,
        return_dict: bool = False,
        **more: Any,
    ) -> Answer:
        """As the UNet's forward. With `more`, such as a ControlNet's residuals, nothing is recorded."""
        call = Call(inputs, timesteps, texts, added_cond_kwargs)
        if more or self._is_off or len(inputs) > MOST_ROWS:
            answer: Answer = self._unet(
                inputs, timesteps, texts, added_cond_kwargs=added_cond_kwargs, return_dict=False, **more
            )
            return answer
        name = (call.kind, self._addresses())
        if name not in self._recordings:
            if not self._is_worth_it(name):
                return (call.by(self._unet),)
            self._recordings[name] = self._proven(call)
            if len(self._recordings) > _MOST:
                self._recordings.popitem(last=False)
        self._recordings.move_to_end(name)
        recording = self._recordings[name]
        return (recording.play(call) if recording else call.by(self._unet),)

    def _is_worth_it(self, name: object) -> bool:
        """Has it come often enough? Each time that one had to make room for others it has to come twice as often: where
        more kinds come in turn than there is room for, none would be played before it went.
        """
        self._seen[name] += 1
        wanted = self._wanted.get(name, _OFTEN)
        if self._seen[name] < wanted:
            if len(self._seen) > _MOST_SEEN:
                self._seen.clear()
            return False
        if len(self._wanted) >= _MOST_SEEN:
            self._wanted.clear()
        self._wanted[name] = 2 * wanted
        del self._seen[name]
        return True

    def _addresses(self) -> tuple[int, ...]:
        weights = (slots[name] for slots, name in self._places)
        return tuple(0 if weight is None else weight.data_ptr() for weight in weights)

    def _proven(self, call: Call) -> Recording | None:
        """A recording that gives the same and is faster, or None. Where recording fails, it is not tried again."""
        try:
            recording = self._record(self._unet, call, next(filter(None, self._recordings.values()), None))
            is_same = torch.equal(recording.play(call), call.by(self._unet))
            plain_s = self._fastest_s(lambda: call.by(self._unet))
            played_s = self._fastest_s(lambda: recording.play(call))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                self._is_off = True
            told = {"action": "recording_failed", "error": str(error)[:200]}
            logger.warning("a UNet call could not be recorded", extra=told)
            return None
        pays = is_same and played_s < _PAYS * plain_s
        measured = {"rows": len(call.inputs), "is_same": is_same, "plain_s": plain_s, "played_s": played_s}
        logger.info("a UNet call was recorded", extra={"action": "recording_tried", "kept": pays, **measured})
        return recording if pays else None

    def _fastest_s(self, work: Callable[[], object]) -> float:
        took_s = []
        for _ in range(_TRIES):
            began_s = self._now_s()
            work()
            took_s.append(self._now_s() - began_s)
        return min(took_s)


def recorded_unet(components: Components) -> RecordedUNet | None:
    """None for a device that records nothing."""
    if components.device.type != "cuda":
        return None
    stream = torch.cuda.Stream(components.device)  # type: ignore[no-untyped-call]

    def now_s() -> float:
        torch.cuda.synchronize(components.device)
        return time.monotonic()

    return RecordedUNet(components.unet, lambda unet, call, like: CudaGraph(unet, call, stream, like), now_s)
