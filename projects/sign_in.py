"""Signing in to the admin, and how often somebody may try."""

from __future__ import annotations

import hashlib
import logging
import math
import time
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth import get_user_model
from django.core.cache import cache
from redis import RedisError
from rest_framework.throttling import BaseThrottle
from unfold.forms import AuthenticationForm as UnfoldAuthenticationForm

from molts.callers import subscriber
from projects.audit import record_blocked

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

    SignInFormBase = AdminAuthenticationForm
else:
    SignInFormBase = UnfoldAuthenticationForm

WINDOW = 600  # seconds, from the first failure
MOST_BY_ADDRESS = 30
# Who guesses at a name waits longer each time. It is never closed: anybody could close it for its owner.
FREE_BY_NAME = 3
LONGEST_WAIT = 8.0  # seconds
NOTED_BY_NAME = 8
NO_PROJECT = (
    "Name and password are right, but you are in no project yet. Ask an owner to add you under “Projects and members”."
)
SWITCHED_OFF = "Name and password are right, but this account is switched off. Ask whoever runs this server."

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tries:
    """The failures of one name or one address; Redis counts them, so all web processes count together."""

    of: str

    @property
    def key(self) -> str:
        return f"sign-in.{hashlib.sha256(self.of.encode()).hexdigest()}"

    def take(self) -> int:
        """Count one before it is made: tries that come at the same moment cannot all be the first. Its number."""
        starts = cache.add(f"{self.key}.end", time.time() + WINDOW, WINDOW)
        (cache.set if starts else cache.add)(self.key, 0, WINDOW)
        try:
            return int(cache.incr(self.key))
        except ValueError:  # the window ended between the two
            return 1

    def give_back(self) -> None:
        try:
            cache.decr(self.key)
        except ValueError:
            return

    def minutes_left(self) -> int:
        end = cache.get(f"{self.key}.end", 0.0)
        return max(1, math.ceil((float(end) - time.time()) / 60))

    def forget(self) -> None:
        cache.delete_many([self.key, f"{self.key}.end"])


def _by_name(name: str) -> Tries:
    return Tries(f"name {unicodedata.normalize('NFKC', name).casefold()}")


def _by_address(address: str) -> Tries:
    return Tries(f"address {subscriber(address)}")


def seconds_to_wait(number: int) -> float:
    """How long the so-many-th try at a name is held back: 1, 2, 4 and 8 seconds after those that are free."""
    return min(LONGEST_WAIT, 2.0 ** (number - FREE_BY_NAME - 1)) if number > FREE_BY_NAME else 0.0


def forget_failures(*, name: str) -> None:
    """Let somebody of this name try again at once."""
    try:
        _by_name(name).forget()
    except (RedisError, OSError):
        logger.warning("failed sign-ins not forgotten: Redis is out of reach")


class SignInForm(SignInFormBase):
    """Unfold's, where guesses become slow for each name, and end for each address."""

    def clean(self) -> dict[str, Any]:
        name, address = self.cleaned_data.get("username", ""), BaseThrottle().get_ident(self.request)  # type: ignore[arg-type]
        try:
            wait = self._take(name, address)
        except (RedisError, OSError):
            logger.warning("sign-ins not counted: Redis is out of reach")
            return super().clean()
        time.sleep(wait)
        cleaned = super().clean()
        try:
            _by_name(name).forget()
            # Not all of the address: an account of one's own would buy any number of guesses at another's.
            _by_address(address).give_back()
        except (RedisError, OSError):
            logger.warning("failed sign-ins not forgotten: Redis is out of reach")
        return cleaned

    def confirm_login_allowed(self, user: AbstractBaseUser) -> None:
        """Called when name and password are right."""
        if user.is_active and not getattr(user, "is_staff", False):
            forget_failures(name=self.cleaned_data["username"])
            raise forms.ValidationError(NO_PROJECT, code="no_project")
        super().confirm_login_allowed(user)  # type: ignore[arg-type]  # a user of ours

    def get_invalid_login_error(self) -> forms.ValidationError:
        """Whoever knows the password is told that the account is off; everybody else that something is wrong."""
        user = get_user_model()._default_manager.filter(username=self.cleaned_data.get("username")).first()
        if user is not None and not user.is_active and user.check_password(self.cleaned_data.get("password", "")):
            return forms.ValidationError(SWITCHED_OFF, code="inactive")
        return super().get_invalid_login_error()

    def _take(self, name: str, address: str) -> float:
        """Seconds to hold the answer back. Raises ValidationError when this address failed too often."""
        by_address, by_name = _by_address(address), _by_name(name)
        number = by_address.take()
        if number > MOST_BY_ADDRESS:
            if number == MOST_BY_ADDRESS + 1:  # one entry for all that follow
                record_blocked(address=address, text=f"{_failed(MOST_BY_ADDRESS)}: sign-in blocked.")
            raise forms.ValidationError(f"Too many tries from your address. Wait {_minutes(by_address)}.")
        number = by_name.take()
        if number == NOTED_BY_NAME + 1:
            user = get_user_model()._default_manager.filter(username=name).first()
            if user is not None:
                text = f"{_failed(NOTED_BY_NAME)} with this name: each further one is held back."
                record_blocked(address=address, user=user, text=text)
        return seconds_to_wait(number)


def _failed(times: int) -> str:
    return f"{times} failed sign-ins within {WINDOW // 60} minutes"


def _minutes(tries: Tries) -> str:
    left = tries.minutes_left()
    return f"{left} minute{'' if left == 1 else 's'}"
