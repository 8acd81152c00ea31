"""The scripted answers: `responder` decides what to say, `rehearsal` shows it to an admin, `llm` says it in a talk."""
