"""HTTP API for programs.

    curl -F file=@clip.mp4 http://127.0.0.1:7860/predict       or  --data-binary @clip.mp4
    curl http://127.0.0.1:7860/health

Errors are JSON objects: {"error": a message, "reason": a key of `refusals.STATUSES`}.
"""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect

import farfield
from farfield.server.middleware import refusal_response
from farfield.server.private_folder import PrivateFolder
from farfield.server.refusals import Refused
from farfield.server.uploads import save_upload
from farfield.server.worker_pool import WorkerPool

log = logging.getLogger("farfield")


def add_routes(app: FastAPI, workers: WorkerPool, folder: PrivateFolder, description: dict[str, Any]) -> None:
    """Add POST /predict, GET /health and JSON errors to an application.

    Args:
        app: application to extend.
        workers: worker processes that run the network.
        folder: folder that holds an upload while its request is processed.
        description: result of `WorkerPool.describe`.
    """

    @app.post("/predict")
    async def predict(request: Request) -> Any:
        try:
            workers.check_capacity()  # before the file is received, which may take long
            with folder.incoming_file() as path:
                name = await save_upload(request, path)  # outside of the queue: a slow sender must not block a worker
                with workers.queued():
                    return await workers.run(name, "recognise", str(path), name)
        except ClientDisconnect:
            return Response(status_code=400)  # the client has disconnected
        except OSError as error:
            log.warning("an upload could not be stored: %s", error)
            raise Refused("The server cannot store the file; see its log. Try again later.", "busy", 60) from error

    @app.get("/health")
    async def health(response: Response) -> dict[str, Any]:
        response.status_code = 200 if workers.alive else 503
        return {
            "status": "ok" if workers.alive else "the worker processes ended; the next request restarts them",
            "network": description["network"],
            "labels": len(description["labels"]),
            "version": farfield.__version__,
            "device": description["device"],
            "busy": workers.busy,
        }

    @app.exception_handler(Refused)
    async def refuse(request: Request, refused: Refused) -> Response:
        return refusal_response(refused)

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> Response:  # Starlette re-raises it, and uvicorn logs it
        return refusal_response(Refused("The server failed; see its log. This is a bug in farfield.", "internal"))
