"""Videos of avatars that speak, made as jobs by workers of the queue `media`: previews, and scripts that agents say."""
