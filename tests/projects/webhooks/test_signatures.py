"""What is sent is accepted by the unmodified verifiers of Standard Webhooks, in Python and in JavaScript."""

from __future__ import annotations

import base64
import json
import subprocess
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone
from pytest_django import Settings
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from molts.errors import Conflict
from projects.models import Project
from projects.webhooks import services
from projects.webhooks.choices import EventType
from projects.webhooks.models import WebhookDelivery, WebhookEndpoint
from projects.webhooks.signing import new_secret
from tests.agent_runtime.stack import ROOT
from tests.projects.webhooks.conftest import Clock, make_endpoint
from tests.projects.webhooks.receiver import Received, Receiver

pytestmark = pytest.mark.django_db(transaction=True)

VERIFY = """
import { Webhook } from "standardwebhooks";
let input = "";
for await (const chunk of process.stdin) input += chunk;
const { secret, headers, body } = JSON.parse(input);
console.log(JSON.stringify(new Webhook(secret).verify(body, headers)));
"""


def verify_in_javascript(secret: str, got: Received) -> subprocess.CompletedProcess[str]:
    question = json.dumps({"secret": secret, "headers": got.headers, "body": got.body})
    command = ["node", "--input-type=module", "--eval", VERIFY]
    return subprocess.run(command, input=question, capture_output=True, text=True, cwd=ROOT, check=False)


def test_secrets_are_as_long_as_the_standard_wants() -> None:
    secret = new_secret()
    assert secret.startswith("whsec_")
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    assert secret != new_secret()


def test_python_and_javascript_accept_what_is_sent(project: Project, receiver: Receiver, clock: Clock) -> None:
    _, secret = make_endpoint(project, receiver.url)
    services.publish(project, EventType.VIDEO_COMPLETED, {"title": "Grüße 🎬 “”", "seconds": 1.5, "none": None})
    clock.tick()
    (got,) = receiver.received

    told = Webhook(secret).verify(got.body, got.headers)
    assert told["data"] == {"title": "Grüße 🎬 “”", "seconds": 1.5, "none": None}
    checked = verify_in_javascript(secret, got)
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout) == told

    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(got.body, got.headers)
    assert verify_in_javascript(new_secret(), got).returncode != 0
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(got.body.replace("Grüße", "Grusse"), got.headers)


def test_after_a_rotation_both_secrets_sign_until_the_old_one_ends(
    project: Project, receiver: Receiver, clock: Clock
) -> None:
    endpoint, old = make_endpoint(project, receiver.url)
    new = services.rotate_secret(endpoint=endpoint)
    services.publish(project, EventType.SESSION_ENDED, {})
    clock.tick()
    for secret in (old, new):
        Webhook(secret).verify(receiver.received[0].body, receiver.received[0].headers)
        assert verify_in_javascript(secret, receiver.received[0]).returncode == 0

    WebhookEndpoint.objects.update(previous_until=timezone.now() - timedelta(seconds=1))
    services.publish(project, EventType.SESSION_ENDED, {})
    clock.tick()
    Webhook(new).verify(receiver.received[1].body, receiver.received[1].headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(receiver.received[1].body, receiver.received[1].headers)


def test_of_two_rotations_at_once_one_is_refused(project: Project) -> None:
    endpoint, _ = make_endpoint(project, "https://example.com/hook")
    same = WebhookEndpoint.objects.get()
    services.rotate_secret(endpoint=endpoint)
    with pytest.raises(Conflict):
        services.rotate_secret(endpoint=same)


def test_a_callback_is_signed_with_the_secret_of_its_project(
    project: Project, receiver: Receiver, clock: Clock
) -> None:
    secret = services.rotate_secret(endpoint=services.callback_endpoint(project=project))
    services.publish(project, EventType.VIDEO_FAILED, {"id": "7"}, callback_url=receiver.url)
    clock.tick()

    (got,) = receiver.received
    assert Webhook(secret).verify(got.body, got.headers)["type"] == "video.failed"
    assert WebhookDelivery.objects.get().url == receiver.url


def test_410_of_a_callback_ends_that_delivery_alone(project: Project, receiver: Receiver, clock: Clock) -> None:
    receiver.answers = [410, 200]
    services.publish(project, EventType.VIDEO_FAILED, {}, callback_url=receiver.url)
    clock.tick()
    assert WebhookDelivery.objects.get().state == "failed"
    assert WebhookEndpoint.objects.get().enabled

    services.publish(project, EventType.VIDEO_FAILED, {}, callback_url=receiver.url)
    clock.tick()
    assert WebhookDelivery.objects.filter(state="delivered").count() == 1


def test_secrets_are_encrypted_and_move_to_a_new_key(
    project: Project, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    from cryptography.fernet import Fernet

    endpoint, old = make_endpoint(project, "https://example.com/hook")
    new = services.rotate_secret(endpoint=endpoint)
    assert old not in endpoint.previous_cipher
    settings.MOLTS_FIELD_KEYS = [Fernet.generate_key().decode(), *settings.MOLTS_FIELD_KEYS]
    call_command("rotate_keys")
    assert capsys.readouterr().out.startswith("2 secrets encrypted with the first key")

    settings.MOLTS_FIELD_KEYS = settings.MOLTS_FIELD_KEYS[:1]
    assert WebhookEndpoint.objects.get().secrets(timezone.now()) == [new, old]
