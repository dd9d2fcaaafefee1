"""Parts of the server, the loop and the data that must not be replaced during a fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedlit.clients.probe import fixed_settings, settings
from fedlit.clients.step_checks import fixed_loss_settings
from fedlit.core.errors import InputError
from fedlit.core.layout import trainable

if TYPE_CHECKING:
    from fedlit.data.module import FederatedData
    from fedlit.federated.module import FederatedModule

BEFORE = "set it before the fit"
#: Attributes of a module that are read when its fit begins, and what to do instead of setting them later.
READ_ONCE = {
    "net": "change its weights instead",
    "client_optimizer": "let model.client_schedule change the clients' rate",
    "server_optimizer": "let model.server_schedule change the server's rate, or set that of trainer.optimizers[0]",
    "loss": "give model.loss",
    "client_clip_norm": "give model.client_clip_norm",
    "client_class": BEFORE,
    "client_schedule": BEFORE,
    "server_schedule": BEFORE,
}
#: The same of the loop, and of the data.
READ_ONCE_OF_LOOP = ("algorithm", "engine")
READ_ONCE_OF_DATA = ("batch_size", "partition", "augmentation", "train")
#: Parts whose attributes are fixed during a fit, with the reason and what to do instead.
CHANGED = {
    "net": "clients train copies that were made then; keep it in a buffer (register_buffer), which each round sends to "
    "them",
    "loss": "worker processes and a resumed run would not see it; give model.loss its final value",
}


class FixedParts:
    """The parts of a module, of its loop and of the data when a fit begins.

    Args:
        module: The server.
        data: The clients' data.
    """

    def __init__(self, module: FederatedModule, data: FederatedData) -> None:
        self._parts = [
            *((module, name, getattr(module, name), remedy) for name, remedy in READ_ONCE.items()),
            *((module.loop, name, getattr(module.loop, name), BEFORE) for name in READ_ONCE_OF_LOOP),
            *((data, name, getattr(data, name), BEFORE) for name in READ_ONCE_OF_DATA),
        ]
        self._settings = {
            "net": fixed_settings(module.net, data),
            "loss": fixed_loss_settings(module.loss, module.net, data),
        }
        self._mu = module.mu
        self._optimizer = type(module.server_optimizer(trainable(module.net)))

    def check(self, module: FederatedModule) -> None:
        """Refuse, at a round's start, parts that were replaced, frozen or unfrozen since the fit began.

        Clients, or a resumed run, would not see such a change.

        Raises:
            InputError: Naming the part, with what to do instead.
        """
        for owner, name, part, remedy in self._parts:
            if getattr(owner, name) is not part:
                raise InputError(
                    f"{name} was replaced after the fit had begun, but clients or a resumed run would not see the new "
                    f"one; {remedy}"
                )
        for part, remedy in CHANGED.items():
            now = settings(getattr(module, part))
            for name, value in self._settings[part].items():
                if name in now and str(now[name]) != str(value):
                    raise InputError(
                        f"the {part}'s {name} was changed from {value!r} to {now[name]!r} after the fit had begun, but "
                        f"{remedy}"
                    )
        if module.mu is not self._mu and module.trainer.checkpoint_callbacks:
            raise InputError(
                f"the module's mu was replaced by a {type(module.mu).__name__} after the fit had begun, but a resumed "
                "run would begin with the old one; change mu in the update of a class of your own (a subclass of "
                "fedlit.federated.Mu), or train without checkpoints"
            )
        trained = {name for name, parameter in module.net.named_parameters() if parameter.requires_grad}
        if changed := sorted(trained ^ set(module.layout.trainable)):
            what = "unfrozen" if changed[0] in trained else "frozen"
            raise InputError(
                f"the net's {changed[0]} was {what} after the FederatedModule was made, but from then on it is fixed "
                "which parameters clients train; set its requires_grad before"
            )
        optimizer = module.trainer.optimizers[0]
        if type(optimizer) is not self._optimizer:
            raise InputError(
                f"the server's optimizer is {type(optimizer).__name__}, but model.server_optimizer is "
                f"{self._optimizer.__name__}, which a resumed run would use; set model.server_optimizer instead"
            )
