"""Plain HTTP for programs.

    curl -F file=@clip.mp4 http://127.0.0.1:7860/predict       or  --data-binary @clip.mp4
    curl http://127.0.0.1:7860/health

Errors are JSON, too: {"error": a sentence, "reason": a key of `limits.STATUSES`}.
"""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect

import farfield
from farfield.server.limits import Refused
from farfield.server.middleware import refusal
from farfield.server.private_folder import PrivateFolder
from farfield.server.uploads import receive
from farfield.server.worker_pool import Workers

_log = logging.getLogger(__name__)


def add_routes(app: FastAPI, workers: Workers, folder: PrivateFolder, about: dict[str, Any]) -> None:
    """Adds POST /predict and GET /health.

    Args:
        app: to add them to.
        workers: what recognises.
        folder: where a file is for as long as a request takes.
        about: what `Workers.describe` returned.
    """

    @app.post("/predict")
    async def predict(request: Request) -> Any:
        try:
            workers.must_have_a_place()  # else the file would be sent for nothing
            with folder.incoming() as path:
                name = await receive(request, path)  # takes no place: a slow sender would keep processes idle
                with workers.admitted():
                    return await workers.run(name, "recognise", str(path), name)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except OSError as error:
            _log.warning("a file cannot be stored: %s", error)
            raise Refused("The server cannot store the file at present; its log says why.", "busy", 60) from error

    @app.get("/health")
    async def health(response: Response) -> dict[str, Any]:
        response.status_code = 200 if workers.alive else 503
        return {
            "status": "ok" if workers.alive else "its processes ended; the next request starts them again",
            "network": about["network"],
            "labels": len(about["labels"]),
            "version": farfield.__version__,
            "device": about["device"],
            "busy": workers.busy,
        }

    @app.exception_handler(Refused)
    async def refuse(request: Request, refused: Refused) -> Response:
        return refusal(refused)

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> Response:  # whoever called the application logs it
        return refusal(Refused("The server failed; its log says why. This is a defect of farfield.", "internal"))
