"""Web page and HTTP API that recognise actions in uploaded videos."""
